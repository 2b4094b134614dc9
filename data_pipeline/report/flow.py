"""How many rows of each table went into each stage, and how many came out.

The steps of one table join up: a stage takes what the one before it kept, and the rows that it adds itself.
Stage validate judges all declared pictures again; its step counts only those that the catalogue still held.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import polars as pl
from msgspec import Struct

from data_pipeline.tables import TABLES

STAGES = ("read", "scan", "images", "validate", "spans", "shards")
PER_DATASET = ("read", "scan", "validate", "spans")  # those that write <stage>/<dataset>/counts.json
COUNTED = ("read", "kept", "rejected", "added")


class Step(Struct):
    """One table in one stage. added: rows that the stage made (matched spans), part of `read`."""

    stage: str
    read: int
    kept: int
    rejected: int
    added: int = 0


class Break(Struct):
    """A step that does not add up."""

    dataset: str
    table: str
    stage: str


Steps = dict[str, list[Step]]  # by table, in the order of the stages
Flow = dict[str, Steps]  # by dataset
Packed = Mapping[str, int]  # rows in the record shards, by table


def flow(
    datasets: Iterable[str], catalogue: pl.DataFrame, found: pl.DataFrame, packed: Mapping[str, Packed]
) -> Flow:
    """Every dataset's steps. found: all findings, with `stage` and `dataset`."""
    kept = dict(catalogue.group_by("dataset").len().iter_rows())
    lost = dict(found.filter(stage="images", outcome="reject").group_by("dataset").len().iter_rows())
    return {
        name: _steps(name, Step("images", 0, kept.get(name, 0), lost.get(name, 0)), packed[name])
        for name in datasets
    }


def packed() -> dict[str, Packed]:
    """What the record shards hold of each dataset."""
    found: dict[str, Packed] = json.loads(Path("data/counts.json").read_text())
    return found


def _steps(dataset: str, catalogued: Step, packed: Packed) -> Steps:
    counts = {stage: json.loads(Path(stage, dataset, "counts.json").read_text()) for stage in PER_DATASET}
    steps = {
        table: [
            Step(stage, **{name: counts[stage][table].get(name, 0) for name in COUNTED})
            for stage in PER_DATASET
            if table in counts[stage]
        ]
        for table in TABLES
    }
    if len(steps["images"]) == len(("read", "scan", "validate")):
        steps["images"] = _pictures(catalogued, *steps["images"])
    for table, rows in steps.items():
        rows.append(Step("shards", packed[table], packed[table], 0))
    return {table: rows for table, rows in steps.items() if any(row.read for row in rows)}


def _pictures(catalogued: Step, read: Step, scan: Step, validate: Step) -> list[Step]:
    """Pictures pass the catalogue between scan and validate."""
    catalogued.read = catalogued.kept + catalogued.rejected
    before = scan.rejected + catalogued.rejected
    judged = Step("validate", validate.read - before, validate.kept, validate.rejected - before)
    return [read, scan, catalogued, judged]


def breaks(flow: Flow) -> list[Break]:
    """Where rows read are not rows kept + rejected, or not what the stage before kept: there must be none."""
    return [
        Break(dataset, table, step.stage)
        for dataset, tables in flow.items()
        for table, steps in tables.items()
        for step, before in zip(steps, [None, *steps], strict=False)
        if not _adds_up(step, before)
    ]


def _adds_up(step: Step, before: Step | None) -> bool:
    joins = before is None or step.read == before.kept + step.added
    return joins and step.rejected >= 0 and step.read == step.kept + step.rejected
