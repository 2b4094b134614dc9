"""Raw annotations of one dataset → read/<dataset>/{images,texts,regions,entities,findings}.parquet

files.json names the raw files that they came from. Rows are written as they stream by: a malformed record is
a reject, a malformed file stops the stage.
"""

import argparse
import gc
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from contract import params
from contract.files import atomic_path
from data_pipeline.reading.raw_files import RawFiles
from data_pipeline.reading.sources import reader, sources
from data_pipeline.table_writer import TableWriter
from data_pipeline.tables import ROWS, Account, Block, Finding, Given, PassedOver
from data_pipeline.validation import budgets


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="a name under datasets: in params.yaml")


def run(args: argparse.Namespace) -> None:
    settings, name = params.load(args.params), args.dataset
    read_dataset(name, params.dataset(settings, name), Path("read", name), settings.budgets.read)


def read_dataset(name: str, dataset: params.Dataset, out: Path, limits: Mapping[str, float]) -> None:
    """All drops of a dataset → one folder of tables. limits: see validation.budgets."""
    read = reader(dataset.format, f"params.yaml: datasets.{name}.format")
    with atomic_path(out) as folder, RawFiles(Path(dataset.folder)) as raw_files:
        folder.mkdir()
        rows = (row for source in sources(name, dataset, raw_files) for row in read(source))
        account = write_rows(rows, folder)
        account.write(folder)
        raw_files.write(folder)
        budgets.check(limits, folder, "read", name)
    print(f"read {name}: {account.summary()}")


def write_rows(rows: Iterable[Given], folder: Path) -> Account:
    """Each row into the table of its type; what the reader gave is counted apart from what was written."""
    given: Counter[type] = Counter()
    rejected: Counter[str] = Counter()
    passed_over: dict[str, Counter[str]] = defaultdict(Counter)
    with ExitStack() as stack, _no_cycles():
        writers = {
            kind: stack.enter_context(TableWriter(folder / f"{table}.parquet", kind))
            for table, kind in {**ROWS, "findings": Finding}.items()
        }
        for row in rows:
            if isinstance(row, PassedOver):
                passed_over[row.table][row.why] += row.number
                continue
            if isinstance(row, Block):
                given[row.kind] += len(row.rows)
                writers[row.kind].add_block(row)
                continue
            given[type(row)] += 1
            writers[type(row)].add(row)
            if type(row) is Finding and row.outcome == "reject":
                rejected[row.table] += 1
    account = Account()
    for table, kind in ROWS.items():
        account.add(table, given[kind] + rejected[table], writers[kind].count, rejected[table])
    for table, counted in passed_over.items():
        account.pass_over(table, counted)
    return account


@contextmanager
def _no_cycles() -> Iterator[None]:
    """Rows hold no reference cycles: looking for some among millions of them costs a third of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
