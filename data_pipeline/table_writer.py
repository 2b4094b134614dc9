"""Rows as they stream → Parquet, a row group at a time. The schema is the row's type."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.tables import Block, NegativeText, Outcome, Row

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


def schema(row: type[Row]) -> pa.Schema:
    """The Parquet schema of a row type; a column may be null only where the type says None."""
    hints = get_type_hints(row)
    return pa.schema([pa.field(name, ARROW[hint], nullable=_optional(hint)) for name, hint in hints.items()])


def _optional(hint: Any) -> bool:
    return type(None) in getattr(hint, "__args__", ())


class TableWriter:
    """Appends rows to a Parquet file, a row group at a time; holds two row groups in memory.

    A thread compresses one row group while the next is gathered.
    """

    def __init__(self, path: Path, row: type[Row]) -> None:
        self._schema = schema(row)
        self._kind = row
        # Ids and texts hardly repeat: without dictionaries the files are smaller, and written faster.
        self._writer = pq.ParquetWriter(
            path, self._schema, compression="zstd", use_dictionary=False, write_statistics=False
        )
        self._beside = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None
        self._rows: list[tuple[Any, ...]] = []
        self._batches: list[pa.RecordBatch] = []
        self._waiting = 0  # rows in _batches
        self.count = 0

    def add(self, row: tuple[Any, ...]) -> None:
        self._rows.append(row)
        if len(self._rows) == BATCH:
            self._pack()

    def add_block(self, block: Block) -> None:
        """Its rows, behind those added before."""
        self._pack()
        if block.rows:
            self._append(block)

    def close(self) -> None:
        """Write what is left; a table without rows is a file too."""
        self._pack()
        self._write(pa.Table.from_batches(self._batches, self._schema))
        self._settle()
        self._beside.shutdown()
        self._writer.close()

    def _pack(self) -> None:
        """Rows → columns, while they are still in the processor's cache."""
        rows, self._rows = self._rows, []
        if rows:
            self._append(Block(self._kind, self._kind._fields, rows, {}))

    def _append(self, block: Block) -> None:
        """Where row groups end depends on the number of rows alone, not on how they came."""
        self.count += len(block.rows)
        self._waiting += len(block.rows)
        self._batches.append(_batch(block, self._schema))
        if self._waiting >= ROW_GROUP:
            table = pa.Table.from_batches(self._batches, self._schema)
            whole = self._waiting // ROW_GROUP * ROW_GROUP
            self._write(table.slice(0, whole))
            self._batches, self._waiting = table.slice(whole).to_batches(), self._waiting - whole

    def _write(self, table: pa.Table) -> None:
        self._settle()
        if table.num_rows:
            self._writing = self._beside.submit(self._writer.write_table, table, row_group_size=ROW_GROUP)

    def _settle(self) -> None:
        """Wait for the row group before; its error is ours."""
        if self._writing:
            self._writing.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self.close()


def _batch(block: Block, schema: pa.Schema) -> pa.RecordBatch:
    """Rows → columns."""
    cells = dict(zip(block.columns, zip(*block.rows, strict=True), strict=True))
    alike = {**block.kind._field_defaults, **block.shared}
    arrays = [
        _array(cells[field.name], field.type)
        if field.name in cells
        else _repeat(alike[field.name], field.type, len(block.rows))
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _repeat(value: Any, kind: pa.DataType, count: int) -> pa.Array:
    """The same value in every row. pyarrow's own is a thousand times slower for lists."""
    if not pa.types.is_list(kind):
        return pa.repeat(pa.scalar(value, kind), count)
    ends = np.arange(count + 1, dtype=np.int32) * len(value)
    return pa.ListArray.from_arrays(ends, _array(value * count, kind.value_type))


def _array(column: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):  # named tuples are no mappings
        column = [[item._asdict() for item in items] for items in column]
    return pa.array(column, kind)
