"""Tables in memory: read, written whole or a block at a time, and their findings."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import polars as pl
import pyarrow.parquet as pq

from data_pipeline.tables import Finding

ROW_GROUP = 1 << 16


def read_table(folder: Path, table: str) -> pl.DataFrame:
    """One table of a stage's folder, in row order."""
    return pl.read_parquet(folder / f"{table}.parquet")


def write_table(path: Path, frame: pl.DataFrame) -> None:
    """A whole table at once; same rows, same bytes."""
    frame.write_parquet(path, compression="zstd", row_group_size=ROW_GROUP, statistics=False)


class FrameWriter:
    """A Parquet file that grows by frames of one schema; it is whole when the first has come."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = None

    def add(self, frame: pl.DataFrame) -> None:
        table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        if self._writer is None:
            options = {"compression": "zstd", "write_statistics": False}
            self._writer = pq.ParquetWriter(self._path, table.schema, **options)
        self._writer.write_table(table, row_group_size=ROW_GROUP)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.close()


def findings_frame(found: Iterable[pl.DataFrame] = ()) -> pl.DataFrame:
    """Findings of several rules as one table, in the order of the rules."""
    columns = dict.fromkeys(Finding._fields, pl.String)
    return pl.concat([pl.DataFrame(schema=columns), *(frame.select(list(columns)) for frame in found)])


def write_findings(folder: Path, findings: pl.DataFrame) -> None:
    """findings.parquet, in an order that does not depend on how the work was done."""
    write_table(folder / "findings.parquet", findings.sort("table", "id", "reason", maintain_order=True))


def reasons(findings: pl.DataFrame) -> str:
    """Findings counted per reason, for the console: "box_overhang 4 repair, malformed 2 reject"."""
    counted = Counter(zip(findings["reason"], findings["outcome"], strict=True))
    return ", ".join(f"{reason} {count:,} {outcome}" for (reason, outcome), count in sorted(counted.items()))


def rejected(findings: pl.DataFrame, table: str | None = None) -> int:
    """How many rows (of one table) the findings reject."""
    return findings.filter(outcome="reject", **({"table": table} if table else {})).height
