"""The command line of `python -m training.fit`."""

import argparse
from pathlib import Path

from training import preset
from training.arguments import folder

EXAMPLES = """\
examples:
  python -m training.fit --shards 'data/gqa-<000..099>.tar'    a range; the quotes are needed (see below)
  python -m training.fit --shards data/gqa-{000..099}.tar      the shell makes a hundred names of it
  python -m training.fit --shards 'data/gqa-*.tar'             a glob: its training shards
  python -m training.fit --shards data                         a folder: its training shards
  python -m training.fit --shards data/gqa-000.tar data/gqa-001.tar
  python -m training.fit --set optim.epochs=20 fusion.kind=none   other settings, for this run only
  python -m training.fit --preset pretrain --run runs/first    itc, itm, region: see training/presets/
  python -m training.fit --preset vqa --init runs/first        then questions, from their weights
  python -m training.fit --blind                               the model that never looks
  python -m training.fit --plan                                what a step reads, how long, which keys
  python -m training.fit --resume runs/20260102-0304-vqa       go on where it was stopped
  python -m training.fit --resume runs/20260102-0304-vqa --set threads=4 on_error=skip
  python -m training.fit --resume auto                         the newest run of this command, else a new one
  python -m training.fit --shards other --tokenizer tokenizer.json --answers answers.txt
                                                               self-contained shards without a manifest
  python -m training.fit --init runs/pretrained                start from another run's weights
  torchrun --nproc-per-node 2 -m -- training.fit --set optim.accumulate=2
                                                               two processes share the parts of each step

Unquoted, the shell takes < and > for redirections: it looks for a file named 000..099 and says "No such file
or directory" before Fuseline is even started. Quote the range, or write it with braces.

exit status: 0 trained to the end; 1 training failed; 2 a mistake in the command, the settings or the shards;
143 stopped by SIGTERM, with a checkpoint: go on by --resume.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.fit",
        description="Train fusion heads on shards of frozen features.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--shards", nargs="+", default=["data"], metavar="PATTERN", help="default: data")
    parser.add_argument(
        "--features", type=Path, help="folder of the feature columns (default: beside the shards')"
    )
    parser.add_argument(
        "--allow-split", action="store_true", help="train on shards that are no training split"
    )
    parser.add_argument(
        "--tokenizer", type=Path, metavar="FILE", help="tokenizer.json of shards without a manifest"
    )
    parser.add_argument(
        "--answers", type=Path, metavar="FILE", help="their answers: one a line, or a JSON list"
    )
    parser.add_argument("--run", type=folder, help="folder of the run (default: runs/<time>-<tasks>)")
    parser.add_argument(
        "--resume", type=folder, metavar="RUN", help="go on with a run, with its own settings; or auto"
    )
    parser.add_argument("--plan", action="store_true", help="say what the run would read and need")
    parser.add_argument("--init", type=folder, metavar="RUN", help="start from another run's best weights")
    parser.add_argument("--blind", action="store_true", help="no picture at all: the question-only baseline")
    parser.add_argument(
        "--preset", metavar="NAME", help=f"a named set of settings, under --set: {', '.join(preset.names())}"
    )
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="override `train`"
    )
    parser.add_argument("--seed", type=int, help="instead of that of params.yaml")
    parser.add_argument(
        "--params", type=Path, default=Path("params.yaml"), help="settings (default: params.yaml)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    return parser
