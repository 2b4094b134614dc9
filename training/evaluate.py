"""`python -m training.evaluate`: score a run on held-out pictures, beside models that cannot see them."""

import argparse
import sys
from collections.abc import Collection
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import torch

from contract import manifest
from contract.errors import MismatchError, ParamsError, run_command
from contract.files import write_atomic
from contract.manifest import DataManifest
from contract.record import Record
from training import run
from training.batch import Batch
from training.batching.needs import need
from training.evaluation import gqa_evaluation, gqa_files
from training.evaluation.metrics import vqa
from training.evaluation.metrics.vqa import Answered
from training.model.model import FusionModel
from training.optimizing import device
from training.reading.tars import Tars, read_record
from training.run import Run
from training.shards import TRAIN, ShardSet, open_shards
from training.stream import Stream

EXAMPLES = """\
examples:
  python -m training.evaluate --run runs/demo
  python -m training.evaluate --run runs/demo --blind runs/blind      beside the question-only model
  python -m training.evaluate --run runs/demo --split testdev --out testdev.json
  python -m training.evaluate --run runs/demo --questions val_all_questions.json --choices val_choices.json
  python -m training.evaluate --run runs/demo --predictions val_predictions.json      for GQA's own eval.py

What stands beside the accuracy: `blind`, a model trained without pictures; `shuffled_pictures`, this model
with each question asked of another picture; `majority`, the most frequent training answer of each type.

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
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--blind", type=Path, metavar="RUN", help="a run trained with fit --blind")
    parser.add_argument("--split", default="val", help="split to score (default: val)")
    parser.add_argument(
        "--shards", nargs="+", metavar="PATTERN", help="default: the folder the run was trained from"
    )
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="default: best")
    parser.add_argument(
        "--batch", type=_batch, default=64, help="pictures at a time, 2 or more (default: 64)"
    )
    parser.add_argument("--out", type=Path, help="result file (default: evaluations/<run>-<split>.json)")
    parser.add_argument(
        "--by-type", type=Path, metavar="FILE", help="scores per question type (default: beside --out)"
    )
    parser.add_argument(
        "--predictions", type=Path, metavar="FILE", help="write every answer in GQA's own form"
    )
    parser.add_argument(
        "--questions", nargs="+", type=Path, metavar="FILE", help="GQA's question files: its own scores too"
    )
    parser.add_argument(
        "--choices", type=Path, metavar="FILE", help="GQA's choices, for validity and plausibility"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    return parser


def _batch(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of 2 or more: pictures are also shuffled")
    return int(text)


def main(arguments: list[str]) -> None:
    """Open the run and the split, answer every question, write and print the scores."""
    options = parser().parse_args(arguments)
    _check_files(options)
    where = device.choose(options.device)
    current = run.open_run(options.run)
    shards = _open(current, options)
    run.check_identity(current, shards)
    _refuse_trained_on(current, run.names(shards))
    for note in shards.notes:
        print(f"note: {note}", file=sys.stderr)
    models = {"accuracy": current}
    if options.blind:
        models["blind"] = _open_blind(options.blind, current)
        _refuse_trained_on(models["blind"], run.names(shards))
    trained = {
        name: run.trained_model(one, options.checkpoint).to(where).eval() for name, one in models.items()
    }
    answered = answer(trained, shards, options.batch, where)
    _add_majority(answered, current)
    _report(options, answered, shards.answers)


def _check_files(options: argparse.Namespace) -> None:
    """Said before the questions are answered, which can take long."""
    if options.choices and not options.questions:
        raise ParamsError("--choices", "goes with --questions")
    for path in [*(options.questions or []), *([options.choices] if options.choices else [])]:
        if not path.is_file():
            raise ParamsError(path, "no such file", fix="name a file of the GQA site, unpacked")


def _report(options: argparse.Namespace, answered: Answered, vocabulary: list[str]) -> None:
    """Print the scores and write the files that were asked for."""
    result = {"run": str(options.run), "split": options.split, "vqa": summarize(answered, vocabulary)}
    rows = [{"type": kind, **scores} for kind, scores in vqa.by_type(answered).items()]
    print(table(result["vqa"], rows))
    if options.questions:
        result["gqa"] = gqa_evaluation.scores(by_id(answered), options.questions, options.choices)
        print(gqa_evaluation.table(result["gqa"]))
    out = options.out or Path("evaluations") / f"{options.run.name}-{options.split}.json"
    _write(out, result)
    _write(options.by_type or out.with_name(f"{out.stem}_by_type.json"), rows)
    if options.predictions:
        gqa_files.write_predictions(options.predictions, by_id(answered))
        print(f"written: {options.predictions}")


def _write(path: Path, content: object) -> None:
    write_atomic(path, msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")
    print(f"written: {path}")


@torch.inference_mode()
def answer(models: dict[str, FusionModel], shards: ShardSet, batch: int, where: torch.device) -> Answered:
    """Every question of the shards, answered by every model, and by the first with shuffled pictures."""
    first = next(iter(models.values()))
    longest = max(model.trunk.text.max_tokens for model in models.values())  # each cuts at its own limit
    stream = Stream(shards, ["vqa"], batch=batch, shuffle="global", max_tokens=longest)
    stream.stop, stream.batch = len(stream), none_alone(len(stream), batch)
    found = Answered([], [], [], {name: [] for name in [*models, "shuffled_pictures"]})
    truths, seen = _truths(shards), set[tuple[str, str]]()
    for part in stream:
        moved = part.to(where)
        for name, model in models.items():
            found.predicted[name] += _words(model, moved, shards.answers)
        found.predicted["shuffled_pictures"] += _words(first, _shuffled(moved), shards.answers)
        keys = [part.keys[row] for row in part.text_picture.tolist()]
        asked = list(zip(keys, part.text_id, strict=True))
        seen.update(asked)
        found.ids += part.text_id
        found.types += part.text_type
        found.answers += [truths[question] for question in asked]
    found.unanswered = [text for key, text in truths if (key, text) not in seen]
    return found


def none_alone(pictures: int, batch: int) -> int:
    """The least batch ≥ `batch` with which no last one is a single picture: that could not be shuffled."""
    return next(size for size in count(batch) if pictures % size != 1 or pictures == 1)


def _words(model: FusionModel, batch: Batch, answers: list[str]) -> list[str]:
    return [answers[number] for number in model.answer_logits(batch).argmax(-1).tolist()]


def _shuffled(batch: Batch) -> Batch:
    """Each question asked of the next picture; the batch comes in random order, so the next is any other."""
    return replace(batch, text_picture=(batch.text_picture + 1) % len(batch.keys))


def _truths(shards: ShardSet) -> dict[tuple[str, str], str]:
    """(key, text id) → answer, also of answers that the vocabulary lacks."""
    return {
        (key, text.id): text.answer
        for key, record in _records(shards)
        for text in record.texts
        if need("vqa").usable(text) and text.answer is not None
    }


def _records(shards: ShardSet) -> list[tuple[str, Record]]:
    tars = Tars()
    found = [
        (key, read_record(tars, shard.path, shard.index, row))
        for shard in shards.shards
        for row, key in enumerate(shard.index.keys())
    ]
    tars.close()
    return found


def _open(current: Run, options: argparse.Namespace) -> ShardSet:
    features = current.config.features
    return open_shards(
        options.shards or [current.config.data],
        current.settings.columns,
        split=options.split,
        features=Path(features) if features else None,
    )


def _refuse_trained_on(trained: Run, shards: Collection[str]) -> None:
    """A score on pictures that a model was trained on says nothing."""
    both = sorted(set(trained.config.opened) & set(shards))
    if both:
        raise ParamsError(
            trained.folder,
            "was trained on shards of this evaluation",
            found=", ".join(both[:3]) + (f" and {len(both) - 3} more" if len(both) > 3 else ""),
            fix="name held-out shards by --split or --shards",
        )


def _open_blind(folder: Path, beside: Run) -> Run:
    """The blind run must see nothing and answer in the same words."""
    blind = run.open_run(folder)
    if blind.settings.inputs:
        raise ParamsError(
            folder, "is not blind", found=f"inputs {blind.settings.inputs}", fix="train it by fit --blind"
        )
    if (
        blind.config.answers != beside.config.answers
        or blind.config.identity.tokenizer != beside.config.identity.tokenizer
    ):
        raise ParamsError(folder, f"was trained on other shards than {beside.folder}", fix="train it again")
    return blind


def _add_majority(answered: Answered, current: Run) -> None:
    """The most frequent training answer of each type, from the training shards that are there, if any."""
    folder = Path(current.config.data)
    known = manifest.load(folder, DataManifest).shards
    paths = [folder / f"{name}.tar" for name, facts in known.items() if facts.split == TRAIN]
    there = [str(path) for path in paths if path.is_file()]
    if not there:
        print(f"majority: no training shard lies in {folder}, so there is none")
        return
    pairs = [
        (text.type, text.answer)
        for _, record in _records(open_shards(there, columns=[]))
        for text in record.texts
        if need("vqa").usable(text) and text.answer is not None
    ]
    most = vqa.majority(pairs)
    answered.predicted["majority"] = [most.get(kind, "") for kind in answered.types]


def summarize(answered: Answered, vocabulary: list[str]) -> dict[str, Any]:
    """The `vqa` object of the result file. Values in [0, 1]; `blind` is null where no blind run was given,
    `majority` where no training shard was there. `unanswered` questions are in no score."""
    scores: dict[str, Any] = {"accuracy": 0.0, "blind": None, "shuffled_pictures": 0.0, "majority": None}
    known = set(vocabulary)
    return {
        **scores,
        **vqa.accuracies(answered),
        "questions": len(answered.answers),
        "answers_outside_vocabulary": sum(answer not in known for answer in answered.answers),
        "unanswered": len(answered.unanswered),
    }


def by_id(answered: Answered) -> dict[str, str]:
    """The run's answers by question id, "" for the unanswered; MismatchError if two questions share an id.

    The official script takes a file with every question or none, so what was not answered counts as wrong.
    """
    ids = answered.ids + answered.unanswered
    predicted = dict(zip(ids, answered.predicted["accuracy"] + [""] * len(answered.unanswered), strict=True))
    if len(predicted) < len(ids):
        raise MismatchError(
            "question ids",
            "are not unique over the datasets of this split",
            found=f"{len(predicted)} ids of {len(ids)} questions",
            fix="name the shards of one dataset by --shards",
        )
    return predicted


def table(result: dict[str, Any], by_type: list[dict[str, Any]]) -> str:
    """The scores as aligned text. by_type: a row per question type, as in the file of that name."""
    columns = ["accuracy", "blind", "shuffled_pictures", "majority"]
    titles = ["accuracy", "blind", "shuffled", "majority"]
    lines = [f"{'':<18}{'questions':>10}" + "".join(f"{title:>10}" for title in titles)]
    for name, scores in [("all", result), *((row["type"], row) for row in by_type)]:
        cells = [scores.get(column) for column in columns]
        lines.append(
            f"{name:<18}{scores['questions']:>10,}"
            + "".join(f"{100 * c:>9.1f}%" if c is not None else f"{'–':>10}" for c in cells)
        )
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
