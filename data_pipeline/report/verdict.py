"""The top of the page: what is wrong with the data, and whether to train on it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from msgspec import Struct

from data_pipeline.report.answers import Balance
from data_pipeline.report.features import Column
from data_pipeline.report.flow import breaks
from data_pipeline.report.splits import TRAIN
from data_pipeline.report.summary import Evidence, Totals, holdings

Level = Literal["stop", "look", "note"]
LARGE = 0.05  # of a table: a reason that takes more deserves a look
ONE_SIDED = 0.9  # a question type whose most frequent answer is right more often


class Concern(Struct):
    """Something to know before training. section: where the page says more."""

    level: Level
    text: str
    section: str


class Verdict(Struct):
    """level: of the worst concern; "note" when nothing is wrong."""

    level: Level
    headline: str
    concerns: list[Concern]


def verdict(evidence: Evidence, totals: Totals) -> Verdict:
    """The concerns, the worst first, and the headline."""
    order: tuple[Level, ...] = ("stop", "look", "note")
    found = sorted(_concerns(evidence), key=lambda concern: order.index(concern.level))
    return Verdict(found[0].level if found else "note", _headline(totals, evidence.leaks["group"]), found)


def _headline(totals: Totals, leaks: list[str]) -> str:
    """The report in one sentence."""
    lost = f"{totals.rejected:,} of {totals.rows:,} source rows were rejected, each with its reason, "
    lost += f"{totals.cascaded:,} more went with them"
    seen = f"{len(leaks):,} GROUPS OF PICTURES ARE" if leaks else "no picture is"
    return (
        f"{totals.pictures:,} pictures with {totals.texts:,} texts and {totals.regions:,} boxes are ready; "
        f"{lost if totals.rejected else f'none of {totals.rows:,} source rows was rejected'}, "
        f"and {seen} in both a training and an evaluation split."
    )


def _concerns(evidence: Evidence) -> Iterator[Concern]:
    yield from _identity(evidence)
    for column in evidence.features:
        yield from _of_column(column, evidence.copies)
    yield from _of_datasets(evidence)
    yield from _of_tokens(evidence.audit)
    yield from _heavy_losses(evidence)
    yield from _one_sided(evidence.answers)
    if evidence.generated:
        text = "All pictures are generated: this is the demo's world (python -m data_pipeline demo)."
        yield Concern("note", text, "samples")


def _identity(evidence: Evidence) -> Iterator[Concern]:
    for identity, shared in evidence.leaks.items():
        if shared:
            text = f"{len(shared):,} pictures, by {identity}, are in a training and in an evaluation split."
            yield Concern("stop", text, "splits")
    for kind, left in evidence.leakage.kept.items():
        if left.pairs:
            text = f"{left.pictures:,} training pictures are evaluation pictures, by {kind}."
            yield Concern("stop", text, "splits")
    for place in breaks(evidence.flow):
        text = f"{place.dataset}: the {place.table} of stage {place.stage} do not add up."
        yield Concern("stop", text, "flow")


def _of_column(column: Column, copies: int) -> Iterator[Concern]:
    name, held = column.encoder, sum(column.pictures.values())
    absent = sum(column.absent.values())
    if column.random:
        text = f"{name}: RANDOM WEIGHTS. These features mean nothing; use them to test the machinery only."
        yield Concern("stop", text, "features")
    if absent == held:
        yield Concern("stop", f"{name}: the column is empty, no picture has features.", "features")
    elif absent:
        text = f"{name}: {absent:,} of {held:,} pictures have no features; tasks that need them skip those."
        yield Concern("look", text, "features")
    if column.statistics.dead:
        text = f"{name}: {len(column.statistics.dead)} of {column.width} channels never change."
        yield Concern("look", text, "features")
    same = column.statistics.duplicates
    if same > copies:
        text = f"{name}: {same:,} pictures have the features of another, but only {copies:,} are its copies."
        yield Concern("look", text, "features")
    if column.weights.demo:
        text = f"{name}: demo weights, made by stage pretrain from generated pictures; of no use on others."
        yield Concern("look", text, "features")


def _of_datasets(evidence: Evidence) -> Iterator[Concern]:
    trained = {row.dataset: row for row in evidence.splits if row.split == TRAIN}
    for row in holdings(evidence):
        if not row.pictures or not row.roles:
            what = "texts" if row.pictures else "pictures"
            yield Concern("stop", f"{row.dataset}: no {what} are left.", "flow")
        elif row.dataset not in trained:
            yield Concern("note", f"{row.dataset}: nothing to train on, evaluation splits only.", "splits")
        if row.roles and row.boxes and not row.tied:
            yield Concern("look", f"{row.dataset}: has boxes, but no text or span names one.", "texts")


def _of_tokens(audit: Mapping[str, Mapping[str, int]]) -> Iterator[Concern]:
    """Texts that a model would not see as they are written."""
    what = {"text_unknown": "hold words that the tokenizer does not know", "text_truncated": "are too long"}
    for dataset, counted in audit.items():
        for name, said in what.items():
            share = counted[name] / max(counted["texts"], 1)
            if share > LARGE:
                yield Concern("look", f"{dataset}: {100 * share:.0f} % of the texts {said}.", "texts")


def _heavy_losses(evidence: Evidence) -> Iterator[Concern]:
    """Reasons that took much of a table of a dataset by themselves."""
    for row in evidence.findings:
        for name, count in row.datasets.items():
            steps = evidence.flow.get(name, {}).get(row.table, [])
            share = count / steps[0].read if steps and steps[0].read else 0.0
            if row.outcome == "reject" and not row.cascade and share > LARGE:
                text = f"{name}: {row.reason} took {count:,} {row.table}, {100 * share:.0f} % of them."
                yield Concern("look", text, "findings")


def _one_sided(answers: Iterable[Balance]) -> Iterator[Concern]:
    for row in answers:
        answer, share = row.top[0]
        if share > ONE_SIDED:
            text = f"{row.dataset}: “{answer}” answers {100 * share:.0f} % of {row.type or 'the questions'}."
            yield Concern("look", text, "answers")
