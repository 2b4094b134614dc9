"""Raw annotations of one dataset → read/<dataset>/{images,texts,regions,entities,findings}.parquet

Rows are written as they stream by. A malformed record is a reject; a malformed file stops the stage.
"""

import argparse
import gc
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from contract import params
from contract.files import atomic_path
from data_pipeline.reading.sources import reader, sources
from data_pipeline.table_writer import TableWriter
from data_pipeline.tables import ROWS, Account, Finding, Row


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="a name under datasets: in params.yaml")


def run(args: argparse.Namespace) -> None:
    name = args.dataset
    read_dataset(name, params.dataset(params.load(args.params), name), Path("read", name))


def read_dataset(name: str, dataset: params.Dataset, out: Path) -> None:
    """All drops of a dataset → one folder of tables."""
    read = reader(dataset.format, f"params.yaml: datasets.{name}.format")
    with atomic_path(out) as folder:
        folder.mkdir()
        rows = (row for source in sources(name, dataset) for row in read(source))
        account = write_rows(rows, folder)
        account.write(folder)
    print(f"read {name}: {account.summary()}")


def write_rows(rows: Iterable[Row], folder: Path) -> Account:
    """Each row into the table of its type; what the reader gave is counted apart from what was written."""
    given: Counter[type] = Counter()
    rejected: Counter[str] = Counter()
    with ExitStack() as stack, _no_cycles():
        writers = {
            kind: stack.enter_context(TableWriter(folder / f"{table}.parquet", kind))
            for table, kind in {**ROWS, "findings": Finding}.items()
        }
        for row in rows:
            given[type(row)] += 1
            writers[type(row)].add(row)
            if type(row) is Finding and row.outcome == "reject":
                rejected[row.table] += 1
    account = Account()
    for table, kind in ROWS.items():
        account.add(table, given[kind] + rejected[table], writers[kind].count, rejected[table])
    return account


@contextmanager
def _no_cycles() -> Iterator[None]:
    """Rows hold no reference cycles: looking for some among millions of them costs a third of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
