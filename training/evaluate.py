"""`python -m training.evaluate`: score a run on held-out pictures, a task at a time, beside chance."""

import argparse
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec

from contract.errors import ParamsError, ShardError, run_command, unknown_name
from contract.files import write_atomic
from contract.manifest import Missing
from training import blindness, run
from training.arguments import folder, positive
from training.evaluation import cir_scores, missing, outputs
from training.evaluation.held_out import HeldOut
from training.evaluation.scored import Scored, Wanted
from training.evaluation.scorers import SCORERS
from training.model.model import FusionModel
from training.optimizing import device
from training.run import Run
from training.shards import ShardSet, open_shards

EXAMPLES = """\
examples:
  python -m training.evaluate --run runs/demo                         every task of the run
  python -m training.evaluate --run runs/demo --tasks cir itc         these alone
  python -m training.evaluate --run runs/demo --split testdev --out testdev.json
 vqa
  python -m training.evaluate --run runs/demo --blind runs/blind      beside the question-only model
  python -m training.evaluate --run runs/demo --questions val_all_questions.json --choices val_choices.json
  python -m training.evaluate --run runs/demo --predictions val_predictions.json      for GQA's own eval.py
  python -m training.evaluate --run runs/demo --split test --predictions test.json    answers withheld
 cir
  python -m training.evaluate --run runs/cir --shards 'data/cirr-val-*.tar'           R@K, R_s@K, their mean
  python -m training.evaluate --run runs/cir --split test1 --submission test1         files for CIRR's server
 itc, itm
  python -m training.evaluate --run runs/pretrain --tasks itc         R@1, R@5, R@10 both ways
  python -m training.evaluate --run runs/pretrain --tasks itm         each side; random, mined, swapped
 region, mfm
  python -m training.evaluate --run runs/region --split val           which box a phrase names, 1 of 11
  python -m training.evaluate --run runs/mfm                          share of variance explained

What stands beside a score: its chance, or where there is none another baseline. Of vqa: `blind`, a model
trained without pictures; `shuffled_pictures`, this model with each question asked of another picture;
`majority`, the most frequent training answer of each type. Of itm `swapped` and `mined_text`: this model with
another picture. Of mfm: the mean of the picture's visible tokens.

What the pipeline rejected of the split is in no shard, so in no score and in no file for CIRR's or GQA's own
scorers: it is noted, and counted as `missing` in the result file.

With GQA's own files: its scores, as eval.py computes them. Consistency looks up questions that only the
`all` files hold, so it needs those, and shards that were built of them. Grounding is left out.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        description="Score a run on held-out pictures.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run", type=folder, required=True, help="folder of the run")
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help="default: every task of the run")
    parser.add_argument("--split", default="val", help="split to score (default: val)")
    parser.add_argument(
        "--shards", nargs="+", metavar="PATTERN", help="default: the folder the run was trained from"
    )
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="default: best")
    parser.add_argument("--batch", type=positive, default=64, help="pictures at a time (default: 64)")
    parser.add_argument(
        "--out", type=Path, help="result file (default: evaluations/<run>-<split>[-<tasks>].json)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    vqa, cir = parser.add_argument_group("vqa"), parser.add_argument_group("cir")
    vqa.add_argument(
        "--blind", type=Path, metavar="RUN", help="what fit --blind made: a run, or why there is none"
    )
    vqa.add_argument(
        "--by-type",
        type=Path,
        metavar="FILE",
        help="scores per question type (default: beside --out); of no question, none",
    )
    vqa.add_argument("--predictions", type=Path, metavar="FILE", help="write every answer in GQA's own form")
    vqa.add_argument(
        "--questions", nargs="+", type=Path, metavar="FILE", help="GQA's question files: its own scores too"
    )
    vqa.add_argument(
        "--choices", type=Path, metavar="FILE", help="GQA's choices, for validity and plausibility"
    )
    cir.add_argument("--submission", type=Path, metavar="FOLDER", help="write the files for CIRR's server")
    return parser


@device.enough_memory()
def main(arguments: list[str]) -> None:
    """Open the run and the split, score every task, write and print what they give."""
    options = parser().parse_args(arguments)
    current = run.open_run(options.run)
    tasks = _tasks(current, options)
    blind_folder, options.blind = options.blind, _blind_run(options, tasks)
    _check_options(options, tasks)
    out = _out(options, tasks)
    _check_files(options, _written(options, tasks, out), blind_folder)
    where = device.choose(options.device)
    shards = _open(current, options)
    run.check_identity(current, shards)
    _refuse_trained_on(current, run.names(shards))
    for note in shards.notes:
        print(f"note: {note}", file=sys.stderr)
    blind = _blind(options, current, shards)
    model = run.trained_model(current, options.checkpoint).to(where).eval()
    held = HeldOut(current, model, shards, options.batch, where)
    wanted = _wanted(options, out, blind.to(where).eval() if blind else None)
    found = [one for task in tasks if (one := _score(task, held, wanted))]
    _report(options, out, found, shards.data.missing)


def _score(task: str, held: HeldOut, wanted: Wanted) -> Scored | None:
    """One task, or a line that says why there is nothing to score."""
    found = SCORERS[task](held, wanted)
    if isinstance(found, Scored):
        return found
    print(f"{task}: {found}", file=sys.stderr)
    return None


def _report(options: argparse.Namespace, out: Path, found: Sequence[Scored], known: Missing) -> None:
    """Print the scores; write them, and the files that were asked for. known: what all splits lack."""
    if not found:
        raise ShardError(
            f"split {options.split}",
            "nothing to score for the tasks of this run",
            fix="name another by --split",
        )
    result: dict[str, Any] = {"run": str(options.run), "split": options.split}
    for scored in found:
        result |= scored.results
        print(scored.table, end="\n\n")
    datasets = {name for scored in found for name in scored.datasets}
    if lost := missing.of_split(known, datasets, options.split):
        result["missing"] = lost
    for line in missing.notes(lost):
        print(f"note: {line}", file=sys.stderr)
    _write(out, msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    official = _official(options)
    for scored in found:
        lost = missing.of_split(known, scored.datasets, options.split)
        for path, content in scored.files.items():
            _write(path, content, missing.lacking(lost, official.get(path, ())))
    if options.by_type and not any(options.by_type in scored.files for scored in found):
        _write(options.by_type, NO_TYPES)


def _write(path: Path, content: bytes, lacking: str = "") -> None:
    done = "replaced" if path.exists() else "written"
    write_atomic(path, content)
    print(f"{done}: {path}{lacking}")


def _official(options: argparse.Namespace) -> dict[Path, Sequence[str]]:
    """Files for other people's scorers → what of a split each must hold, as the manifest counts it."""
    submitted = cir_scores.submitted(options.submission) if options.submission else []
    return {**dict.fromkeys(submitted, ("picture", "edit")), options.predictions: ("question",)}


def _out(options: argparse.Namespace, tasks: list[str]) -> Path:
    name = "-".join([options.run.name, options.split, *(tasks if options.tasks else [])])
    out: Path = options.out or Path("evaluations") / f"{name}.json"
    return out


def _by_type(options: argparse.Namespace, out: Path) -> Path:
    path: Path = options.by_type or out.parent / f"{out.stem}_by_type.json"
    return path


def _written(options: argparse.Namespace, tasks: list[str], out: Path) -> list[Path]:
    """Every file that is asked for."""
    vqa = [_by_type(options, out), options.predictions] if "vqa" in tasks else [options.by_type]
    cir = cir_scores.submitted(options.submission) if options.submission else []
    return [out, *filter(None, vqa), *cir]


def _wanted(options: argparse.Namespace, out: Path, blind: FusionModel | None) -> Wanted:
    return Wanted(
        blind=blind,
        questions=options.questions or [],
        choices=options.choices,
        by_type=_by_type(options, out),
        predictions=options.predictions,
        submission=options.submission,
    )


OPTIONS_OF = {"vqa": ("blind", "predictions", "questions", "choices"), "cir": ("submission",)}
NO_TYPES = b"[]\n"  # a file that was asked for is always written


def _tasks(current: Run, options: argparse.Namespace) -> list[str]:
    """The tasks to score; ParamsError for one that the run lacks."""
    known = current.settings.tasks.chosen
    for name in options.tasks or []:
        if name not in known:
            raise unknown_name("--tasks", "task of this run", name, known)
    return [name for name in known if not options.tasks or name in options.tasks]


def _blind_run(options: argparse.Namespace, tasks: list[str]) -> Path | None:
    """The folder of `--blind`; None, which is said, where fit could train none for these tasks."""
    folder: Path | None = options.blind
    none = blindness.read(folder) if folder else None
    if none is None:
        return folder
    if "vqa" in tasks:
        raise ParamsError(
            folder, "holds no run", found=none.said, expected="one of vqa", fix="train it by fit --blind"
        )
    print(f"note: {none.said}", file=sys.stderr)
    return None


def _check_options(options: argparse.Namespace, tasks: list[str]) -> None:
    """Each goes with a task that is scored."""
    for task, names in OPTIONS_OF.items():
        given = [f"--{name.replace('_', '-')}" for name in names if getattr(options, name)]
        if given and task not in tasks:
            found = f"tasks {', '.join(tasks)}"
            raise ParamsError(given[0], f"goes with {task}, which is not scored", found=found)


def _check_files(options: argparse.Namespace, written: list[Path], blind: Path | None) -> None:
    """Said before the questions are answered, which can take long. blind: the folder of `--blind`."""
    if options.choices and not options.questions:
        raise ParamsError("--choices", "goes with --questions")
    read = [*(options.questions or []), *([options.choices] if options.choices else [])]
    for path in read:
        if not path.is_file():
            raise ParamsError(path, "no such file", fix="name a file of the GQA site, unpacked")
    runs = [options.run, *([blind] if blind else [])]
    theirs = [path for folder in runs for path in (*run.own(folder), folder / blindness.FILE)]
    outputs.check(written, [*read, *theirs])


def _open(current: Run, options: argparse.Namespace) -> ShardSet:
    features = current.config.features
    return open_shards(
        options.shards or [current.config.data],
        current.settings.columns,
        split=options.split,
        other_split="name its split by --split",
        features=Path(features) if features else None,
        tokenizer=current.folder / "tokenizer.json",
        answers=current.config.answers,
    )


def _refuse_trained_on(trained: Run, shards: Collection[str]) -> None:
    """A score on pictures that a model, or what it was begun with, was trained on says nothing."""
    config = trained.config
    if config.init and not config.ancestors:
        unknown = f"the shards of the weights that {trained.folder} was begun with are not known"
        print(f"note: {unknown}: it may have seen these", file=sys.stderr)
    both = sorted(set(run.trained_on(config)) & set(shards))
    if both:
        begun = "" if set(config.opened) & set(shards) else "begun with weights that were "
        raise ParamsError(
            trained.folder,
            f"was {begun}trained on shards of this evaluation",
            found=", ".join(both[:3]) + (f" and {len(both) - 3} more" if len(both) > 3 else ""),
            fix="name held-out shards by --split or --shards",
        )


def _blind(options: argparse.Namespace, beside: Run, shards: ShardSet) -> FusionModel | None:
    """The model of `--blind`, which must see nothing and answer in the same words."""
    if options.blind is None:
        return None
    blind = run.open_run(options.blind)
    if blind.settings.inputs:
        raise ParamsError(
            options.blind,
            "is not blind",
            found=f"inputs {blind.settings.inputs}",
            fix="train it by fit --blind",
        )
    _check_words(blind, beside)
    _refuse_trained_on(blind, run.names(shards))
    return run.trained_model(blind, options.checkpoint)


def _check_words(blind: Run, beside: Run) -> None:
    """Both models are asked in the same tokens, and answer in the same words."""
    here, there = beside.config, blind.config
    if (there.answers, there.identity.tokenizer) != (here.answers, here.identity.tokenizer):
        raise ParamsError(
            blind.folder, f"was trained on other shards than {beside.folder}", fix="train it again"
        )
    if there.identity.text != here.identity.text:
        raise ParamsError(
            blind.folder,
            f"has another text encoder than {beside.folder}, and would be asked in tokens of that one",
            fix="train it again by the same model.text",
        )


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
