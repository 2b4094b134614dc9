"""What every stage found wrong, gathered and counted."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import polars as pl
from msgspec import Struct
from msgspec.structs import asdict

from contract.params import Budgets
from data_pipeline.report.flow import PER_DATASET
from data_pipeline.tables import CASCADES, Finding

OUTCOMES = ("reject", "repair", "flag")


class Count(Struct):
    """Findings of one reason, outcome and table. cascade: the row went because another went."""

    reason: str
    outcome: str
    table: str
    cascade: bool
    count: int
    datasets: dict[str, int]


class Spent(Struct):
    """What one dataset, or encoder, used of the budget of a reason. Shares are of the table's rows."""

    stage: str
    reason: str
    dataset: str
    table: str
    count: int
    share: float
    limit: float


def findings(datasets: Iterable[str], encoders: Iterable[str]) -> pl.DataFrame:
    """All findings, with `stage` and `dataset` (of the features: the encoder), in one order."""
    parts = [(stage, name, Path(stage, name)) for name in datasets for stage in PER_DATASET]
    parts += [("features", name, Path("features", name)) for name in encoders]
    parts += [("images", "", Path("images"))]
    found = [_findings(stage, name, folder / "findings.parquet") for stage, name, folder in parts]
    rows = pl.concat(part for part in found if part is not None)
    return rows.sort("dataset", "stage", "table", "reason", "id", maintain_order=True)


def _findings(stage: str, name: str, path: Path) -> pl.DataFrame | None:
    if not path.is_file():
        return None
    found = pl.read_parquet(path)
    if "dataset" not in found.columns:
        found = found.with_columns(dataset=pl.lit(name))
    return found.select("dataset", pl.lit(stage).alias("stage"), *Finding._fields)


def tally(found: pl.DataFrame) -> list[Count]:
    """Findings per reason, outcome and table: rejects first, the most frequent first."""
    columns = ["reason", "outcome", "table"]
    counted = found.group_by(*columns, "dataset").len().sort("dataset")
    rows: dict[tuple[str, ...], Count] = {}
    for reason, outcome, table, dataset, count in counted.select(*columns, "dataset", "len").iter_rows():
        empty = Count(reason, outcome, table, reason in CASCADES, 0, {})
        row = rows.setdefault((reason, outcome, table), empty)
        row.datasets[dataset] = count
        row.count += count
    return sorted(
        rows.values(), key=lambda row: (OUTCOMES.index(row.outcome), -row.count, row.reason, row.table)
    )


def spent(found: pl.DataFrame, budgets: Budgets) -> list[Spent]:
    """What was used of each budget, stage by stage. Stage images has one for all datasets together."""
    return [row for stage, limits in asdict(budgets).items() for row in _spent(found, stage, limits)]


def _spent(found: pl.DataFrame, stage: str, limits: Mapping[str, float]) -> Iterator[Spent]:
    whole = pl.lit("") if stage == "images" else pl.col("dataset")
    columns = ["reason", "dataset", "table"]
    held = found.filter(pl.col("reason").is_in(list(limits)), stage=stage).with_columns(dataset=whole)
    for reason, dataset, table, count in held.group_by(columns).len().sort(columns).iter_rows():
        read = json.loads(Path(stage, dataset, "counts.json").read_text())[table]["read"]
        yield Spent(stage, reason, dataset, table, count, count / max(read, 1), limits[reason])
