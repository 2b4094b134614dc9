"""What was observed of the data, and what it adds up to."""

from collections.abc import Iterable

from msgspec import Struct

from data_pipeline.report.answers import Balance
from data_pipeline.report.boxes import BoxFacts
from data_pipeline.report.features import Column
from data_pipeline.report.findings import Count
from data_pipeline.report.flow import Flow
from data_pipeline.report.spans import Coverage
from data_pipeline.report.splits import Leakage, Split


class Evidence(Struct):
    """What the files of all stages say."""

    generated: bool
    flow: Flow
    findings: list[Count]
    splits: list[Split]
    leakage: Leakage
    leaks: dict[str, list[str]]
    coverage: list[Coverage]
    boxes: list[BoxFacts]
    audit: dict[str, dict[str, int]]
    answers: list[Balance]
    copies: int  # pictures whose file another picture has too, in whatever dataset
    features: list[Column]


class Totals(Struct):
    """What the shards hold, and what became of the source's rows. cascaded: lost with another row."""

    datasets: int
    pictures: int
    texts: int
    regions: int
    spans: int
    rows: int
    rejected: int
    cascaded: int
    repaired: int
    flagged: int


class Holding(Struct):
    """One dataset in one line. roles: texts by role."""

    dataset: str
    pictures: int
    roles: dict[str, int]
    boxes: int
    spans: int
    tied: int  # texts that, or a span of which, name a box


def totals(evidence: Evidence) -> Totals:
    """Sums over all datasets."""
    rejects = [row for row in evidence.findings if row.outcome == "reject"]
    outcomes = {name: _rows(evidence.findings, name) for name in ("repair", "flag")}
    return Totals(
        datasets=len(evidence.flow),
        pictures=sum(row.pictures for row in evidence.splits),
        texts=sum(row.texts for row in evidence.splits),
        regions=sum(row.boxes for row in evidence.boxes),
        spans=sum(row.spans for row in evidence.coverage),
        rows=sum(steps[0].read for tables in evidence.flow.values() for steps in tables.values()),
        rejected=sum(row.count for row in rejects if not row.cascade),
        cascaded=sum(row.count for row in rejects if row.cascade and row.table != "images"),
        repaired=outcomes["repair"],
        flagged=outcomes["flag"],
    )


def _rows(findings: Iterable[Count], outcome: str) -> int:
    return sum(row.count for row in findings if row.outcome == outcome)


def holdings(evidence: Evidence) -> list[Holding]:
    """What each dataset brings."""
    boxes = {row.dataset: row.boxes for row in evidence.boxes}
    rows = []
    for name in evidence.flow:
        roles = [row for row in evidence.coverage if row.dataset == name]
        pictures = sum(row.pictures for row in evidence.splits if row.dataset == name)
        texts = {row.role: row.texts for row in roles}
        spans, tied = sum(row.spans for row in roles), sum(row.with_boxes for row in roles)
        rows.append(Holding(name, pictures, texts, boxes.get(name, 0), spans, tied))
    return rows
