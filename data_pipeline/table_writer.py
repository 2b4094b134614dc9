"""Rows as they stream → Parquet, a row group at a time. The schema is the row's type."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.tables import NegativeText, Outcome

ROW_GROUP = 1 << 16
BATCH = 1 << 13  # rows turned into columns at once
ARROW = {
    str: pa.string(),
    int: pa.int32(),
    float: pa.float64(),
    bool: pa.bool_(),
    list[str]: pa.list_(pa.string()),
    list[float]: pa.list_(pa.float64()),
    Outcome: pa.string(),
    str | None: pa.string(),
    int | None: pa.int32(),
    list[NegativeText]: pa.list_(pa.struct([("text", pa.string()), ("kind", pa.string())])),
}


def schema(row: type[tuple[Any, ...]]) -> pa.Schema:
    """The Parquet schema of a row type; a column may be null only where the type says None."""
    hints = get_type_hints(row)
    return pa.schema([pa.field(name, ARROW[hint], nullable=_optional(hint)) for name, hint in hints.items()])


def _optional(hint: Any) -> bool:
    return type(None) in getattr(hint, "__args__", ())


class TableWriter:
    """Appends rows to a Parquet file, a row group at a time; holds one row group in memory."""

    def __init__(self, path: Path, row: type[tuple[Any, ...]]) -> None:
        self._schema = schema(row)
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[tuple[Any, ...]] = []
        self._batches: list[pa.RecordBatch] = []
        self.count = 0

    def add(self, row: tuple[Any, ...]) -> None:
        self._rows.append(row)
        if len(self._rows) == BATCH:
            self._pack()

    def close(self) -> None:
        """Write what is left; a table without rows is a file too."""
        self._pack()
        self._write()
        self._writer.close()

    def _pack(self) -> None:
        """Rows → columns, while they are still in the processor's cache."""
        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(self._schema)
        arrays = [_array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._batches.append(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        self.count += len(self._rows)
        self._rows.clear()
        if len(self._batches) * BATCH == ROW_GROUP:
            self._write()

    def _write(self) -> None:
        table = pa.Table.from_batches(self._batches, self._schema)
        if table.num_rows:
            self._writer.write_table(table, row_group_size=ROW_GROUP)
        self._batches.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self.close()


def _array(column: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):  # named tuples are no mappings
        column = [[item._asdict() for item in items] for items in column]
    return pa.array(column, kind)
