"""A run's answers: exact matches, beside models that cannot see the picture, and in GQA's own form.

`shuffled_pictures` is the same model with each question asked of another picture; `blind` a model trained
without pictures; `majority` the most frequent training answer of each type.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import msgspec
import torch

from contract.errors import MismatchError
from contract.index import is_vqa
from contract.record import Text
from training.batch import Batch
from training.batching.needs import Need
from training.evaluation import gqa_evaluation, gqa_files
from training.evaluation.held_out import HeldOut, Picture, asked, records, ring, shuffled
from training.evaluation.metrics import vqa
from training.evaluation.metrics.vqa import Answered
from training.evaluation.scored import NO_TEXT, Scored, Wanted, note
from training.model.model import FusionModel
from training.run import Run
from training.shards import open_shards

SHUFFLED = "shuffled_pictures"
NOTED = ("without_features", "unanswered", "texts_cut")


class OfType(TypedDict):
    """A row of the file by type. Values in [0, 1]; a model that was not asked has none."""

    type: str
    questions: int
    accuracy: NotRequired[float | None]
    blind: NotRequired[float | None]
    shuffled_pictures: NotRequired[float | None]
    majority: NotRequired[float | None]


def is_question(text: Text) -> bool:
    """A question, its answer known or withheld."""
    return text.role == "question"


def score(held: HeldOut, wanted: Wanted) -> Scored | str:
    """`vqa`, with GQA's question files also `gqa`; the scores per type and the predictions as files."""
    found = held.pictures(is_question)
    if not found:
        return NO_TEXT
    answered = answer(held, wanted.blind, found)
    _add_majority(answered, held.run)
    rows = [{"type": kind, **scores} for kind, scores in vqa.by_type(answered).items()]
    noted = held.noted([picture for pictures in found.values() for picture in pictures if picture.texts])
    results = {"vqa": summarize(answered, held.shards.answers) | noted}
    tables = [table(results["vqa"], rows)]
    if wanted.questions:
        results["gqa"] = gqa_evaluation.scores(by_id(answered), wanted.questions, wanted.choices)
        tables.append(gqa_evaluation.table(results["gqa"]))
    files = {wanted.by_type: msgspec.json.format(msgspec.json.encode(rows), indent=1) + b"\n"}
    if wanted.predictions:
        files[wanted.predictions] = gqa_files.predictions(by_id(answered))
    return Scored(results, "\n".join(tables), files, list(found))


@torch.inference_mode()
def answer(held: HeldOut, blind: FusionModel | None, found: dict[str, list[Picture]]) -> Answered:
    """Every question, answered by every model, and by the run's with the next picture of a random order."""
    models = {"accuracy": held.model} | ({"blind": blind} if blind else {})
    longest = max(model.trunk.text.max_tokens for model in models.values())  # each cuts at its own limit
    answered = Answered([], [], [], {name: [] for name in [*models, SHUFFLED]})
    for dataset, pictures in found.items():
        answered.unanswered += [text.id for one in pictures if one.absent for text in one.texts]
        truths = {(one.key, text.id): text.answer for one in pictures for text in one.texts}
        rows = ring(shuffled(asked(pictures), dataset), held.batch)
        need = Need(None, is_question)
        for batch in held.batches("vqa", dataset, rows, need, held.batch + 1, max_tokens=longest):
            _add(answered, batch, _answers(models, batch, held.shards.answers), truths)
    if any(len(asked(pictures)) == 1 for pictures in found.values()):
        del answered.predicted[SHUFFLED]  # the picture after the only one is itself
    return answered


def _answers(models: dict[str, FusionModel], batch: Batch, vocabulary: list[str]) -> dict[str, list[str]]:
    """Of every question of a batch, by each model, and by the first of the next picture."""
    first = next(iter(models.values()))
    moved = replace(batch, text_picture=(batch.text_picture + 1) % len(batch.keys))
    logits = {name: model.answer_logits(batch) for name, model in models.items()}
    logits[SHUFFLED] = first.answer_logits(moved)
    return {name: [vocabulary[row] for row in some.argmax(-1).tolist()] for name, some in logits.items()}


def _add(
    answered: Answered,
    batch: Batch,
    said: dict[str, list[str]],
    truths: dict[tuple[str, str], str | None],
) -> None:
    """The questions of a block of the ring; its last picture is only there as another's next."""
    last = len(batch.keys) - 1
    for number, (picture, text) in enumerate(zip(batch.text_picture.tolist(), batch.text_id, strict=True)):
        truth = truths[batch.keys[picture], text]
        if picture == last:
            continue
        if truth is None:
            answered.withheld.append((text, said["accuracy"][number]))
            continue
        answered.ids.append(text)
        answered.types.append(batch.text_type[number])
        answered.answers.append(truth)
        for name, words in said.items():
            answered.predicted[name].append(words[number])


def _add_majority(answered: Answered, current: Run) -> None:
    """The most frequent answer of each type, of those shards that the run was trained on and are there."""
    folder = Path(current.config.data)
    paths = [folder / f"{name}.tar" for name in current.config.opened]
    there = [str(path) for path in paths if path.is_file()]
    if not there:
        print(f"majority: no training shard lies in {folder}, so there is none")
        return
    if len(there) < len(paths):
        print(
            f"majority: of the {len(there)} of this run's {len(paths)} training shards that lie in {folder}"
        )
    words, answers = current.folder / "tokenizer.json", current.config.answers
    opened = open_shards(there, columns=[], allow_split=True, tokenizer=words, answers=answers)
    most = vqa.majority(
        (text.type, text.answer)
        for shard in opened.shards
        for record in records(shard)
        for text in record.texts
        if is_vqa(text) and text.answer is not None
    )
    answered.predicted["majority"] = [most.get(kind, "") for kind in answered.types]


def summarize(answered: Answered, vocabulary: list[str]) -> dict[str, Any]:
    """The `vqa` object of the result file. Values in [0, 1]; `blind` is null where no blind run was given,
    `majority` where no training shard was there, `shuffled_pictures` where a dataset has but one picture.
    `unanswered` questions are in no score.
    """
    scores: dict[str, Any] = {"accuracy": None, "blind": None, SHUFFLED: None, "majority": None}
    known = set(vocabulary)
    return {
        **scores,
        **vqa.accuracies(answered),
        "questions": len(answered.answers),
        "answers_outside_vocabulary": sum(answer not in known for answer in answered.answers),
        "unanswered": len(answered.unanswered),
        "answers_withheld": len(answered.withheld),
    }


def by_id(answered: Answered) -> dict[str, str]:
    """The run's answers by question id, "" for the unanswered; MismatchError if two questions share an id.

    The official script takes a file with every question or none, so what was not answered counts as wrong.
    """
    said = list(zip(answered.ids, answered.predicted["accuracy"], strict=True)) + answered.withheld
    said += [(name, "") for name in answered.unanswered]
    predicted = dict(said)
    if len(predicted) < len(said):
        raise MismatchError(
            "question ids",
            "are not unique over the datasets of this split",
            found=f"{len(predicted)} ids of {len(said)} questions",
            fix="name the shards of one dataset by --shards",
        )
    return predicted


def table(result: dict[str, Any], by_type: list[dict[str, Any]]) -> str:
    """The scores as aligned text, and a line for what they are not of.

    by_type: a row per question type, as in the file of that name.
    """
    columns = ["accuracy", "blind", SHUFFLED, "majority"]
    titles = ["accuracy", "blind", "shuffled", "majority"]
    lines = [f"{'':<18}{'questions':>10}" + "".join(f"{title:>10}" for title in titles)]
    for name, scores in [("all", result), *((row["type"], row) for row in by_type)]:
        cells = [scores.get(column) for column in columns]
        lines.append(
            f"{name:<18}{scores['questions']:>10,}"
            + "".join(f"{100 * c:>9.1f}%" if c is not None else f"{'–':>10}" for c in cells)
        )
    lines += [note(what, result[what]) for what in NOTED if result[what]]
    return "\n".join(lines)
