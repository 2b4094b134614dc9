"""`python -m data_pipeline <stage>`: every stage of dvc.yaml, and the commands around them.

A command is imported only when it is called, so that `--help` and light stages start at once.
"""

import argparse
import sys
from importlib import import_module
from pathlib import Path

from contract.errors import RawDataError, run_command, unknown_name

STAGES = {
    "demo": "generate the demo's pictures and annotations, in the official file formats",
    "pretrain": "make the demo encoders' weights from the generated training pictures",
    "read": "raw annotations of one dataset → tables",
    "scan": "picture files of one dataset → type, size, hashes, damage",
    "images": "all datasets → one catalogue: identity, splits, placement in shards",
    "validate": "tables → kept rows, repairs, flags and rejects of one dataset",
    "spans": "texts of one dataset → tokens and token spans",
    "features": "pictures → frozen features of one encoder",
    "negatives": "features → nearest pictures",
    "shards": "everything → record shards in data/",
    "report": "everything → reports/dataset.html",
}
COMMANDS = {
    "verify": "check every byte of a folder of shards and its columns; say which shard is bad",
    "export": "shards that hold records, features and negatives in one tar each",
    "show": "look at a shard: its keys, or one record with its picture, boxes and spans",
    "encode": "encode one picture with the encoders of a feature column",
    "suggest-batch": "measure an encoder, and say which batch and threads to write into params.yaml",
    "tokenizer": "make a tokenizer file from texts, or fetch one",
}
EXAMPLE = {
    **{name: f"python -m data_pipeline {name}" for name in STAGES},
    **{name: f"python -m data_pipeline {name} demo" for name in ("demo", "pretrain")},
    **{name: f"python -m data_pipeline {name} gqa" for name in ("read", "scan", "validate", "spans")},
    "features": "python -m data_pipeline features vit",
    "verify": "python -m data_pipeline verify data --deep",
    "export": "python -m data_pipeline export --out exported --columns vit,esam",
    "show": "python -m data_pipeline show data/gqa-000.tar",
    "encode": "python -m data_pipeline encode --image x.jpg --manifest features/vit --out /tmp/x",
    "suggest-batch": "python -m data_pipeline suggest-batch vit",
    "tokenizer": "python -m data_pipeline tokenizer --out weights/tokenizer.json --size 8000 --from read/gqa",
}
EXAMPLES = """\
examples:
  dvc repro                                        run every stage that is out of date
  python -m data_pipeline read gqa                 one stage by hand
  python -m data_pipeline show data/gqa-000.tar    what is in a shard
  python -m data_pipeline read --help              what a stage takes
"""


def overview() -> argparse.ArgumentParser:
    """The parser that knows the names only."""
    lines = [f"  {name:<14}{text}" for name, text in (STAGES | COMMANDS).items()]
    parser = argparse.ArgumentParser(
        prog="python -m data_pipeline",
        description="Raw image–text–region annotations → validated shards.\n\n" + "\n".join(lines),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", metavar="stage", help="one of the above")
    return parser


def main(arguments: list[str]) -> int | None:
    """Find the command, let it add its arguments, run it."""
    if not arguments or arguments[0].startswith("-"):
        overview().parse_args(arguments)
    name, *rest = arguments
    if name not in STAGES | COMMANDS:
        raise unknown_name("python -m data_pipeline", "stage", name, STAGES | COMMANDS)
    module = import_module(f"data_pipeline.stages.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(
        prog=f"python -m data_pipeline {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.arguments(parser)
    parser.epilog = parser.epilog or f"example:\n  {EXAMPLE[name]}"
    parser.add_argument(
        "--params", type=Path, default=Path("params.yaml"), help="settings (default: params.yaml)"
    )
    try:
        status: int | None = module.run(parser.parse_args(rest))
    except FileNotFoundError as error:  # an earlier stage made no table
        missing = error.filename or str(error).splitlines()[0].rpartition(": ")[2]
        raise RawDataError(missing, "no such file", fix="run the stages before this one: dvc repro") from None
    return status


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
