"""Check a folder of record shards and the columns beside it: manifests, counts, and the hash of every byte.

--deep also decodes every record, array and negative, and looks for pictures that train and evaluation share.
Prints every fault; exit status 1 when there is one.
"""

import argparse
import os
from functools import lru_cache
from pathlib import Path

from msgspec import Struct

from contract.errors import ParamsError, ShardError
from contract.manifest import DataManifest, FeatureManifest
from contract.record import Record
from data_pipeline.engine import run_tasks
from data_pipeline.pictures.placement import TRAIN
from data_pipeline.shards import verifying, verifying_contents
from data_pipeline.shards.verifying import Column, Fault
from data_pipeline.shards.verifying_contents import Seen
from data_pipeline.texts import tokenizer_file


class Task(Struct):
    """One shard in all its columns, the records first.

    beside: the shards of its dataset and split. vocabulary: size of the tokenizer's, if it can be read.
    """

    columns: list[Column]
    shard: str
    beside: tuple[str, ...]
    vocabulary: int | None
    deep: bool


class Checked(Struct):
    """What a task found. seen: the shard's pictures, if it was deep."""

    faults: list[Fault]
    seen: list[Seen] = []


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which folder, how thoroughly."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument(
        "data", type=Path, nargs="?", default=Path("data"), help="folder of records (default: data)"
    )
    parser.add_argument("--deep", action="store_true", help="decode every member; look for leakage")
    parser.add_argument("--workers", type=int, default=cores, help="processes (default: one per core)")


def run(args: argparse.Namespace) -> int:
    """Print what is wrong; 1 if anything is."""
    if not args.data.is_dir():
        fix = f"fetch it (dvc pull {args.data}) or build it (dvc repro)"
        raise ShardError(args.data, "no such folder", fix=fix)
    data = args.data.resolve()
    columns, faults = verifying.columns(Path(os.path.relpath(data.parent), data.name))
    if columns and isinstance(columns[0].manifest, DataManifest):
        faults += verify(columns, args.deep, args.workers)
    for fault in faults:
        print(f"{fault.where}: {fault.problem}\n  fix:      {fault.fix}")
    shards = sum(len(column.manifest.shards) for column in columns)
    depth = "every byte and every member" if args.deep else "every byte"
    said = f"{len(faults)} faults in {len({fault.where for fault in faults})} places" if faults else "sound"
    print(f"{args.data}: {shards} tars in {len(columns)} folders, {depth} checked: {said}")
    return 1 if faults else 0


def verify(columns: list[Column], deep: bool, workers: int) -> list[Fault]:
    """Every fault of the records, which come first, and of the columns beside them."""
    shards = columns[0].manifest.shards
    faults = list(verifying.check_folders(columns, set(shards)))
    vocabulary = _vocabulary(columns[0].folder / "tokenizer.json", faults) if deep else None
    tasks = [Task(columns, shard, _beside(columns[0], shard), vocabulary, deep) for shard in sorted(shards)]
    train: list[Seen] = []
    evaluation: list[Seen] = []
    for task, checked in zip(tasks, run_tasks(check, tasks, workers, label="verify"), strict=True):
        faults += checked.faults
        (train if shards[task.shard].split == TRAIN else evaluation).extend(checked.seen)
    return faults + list(verifying_contents.leakage(train, evaluation))


def _vocabulary(path: Path, faults: list[Fault]) -> int | None:
    """How many tokens there are."""
    try:
        return tokenizer_file.load(str(path)).get_vocab_size()
    except ParamsError as error:
        faults.append(verifying.fault(path, f"is no tokenizer: {error.found}"))
        return None


def _beside(records: Column, shard: str) -> tuple[str, ...]:
    """The shards that a text or neighbour of this one may name pictures of."""
    shards = records.manifest.shards
    own = (shards[shard].dataset, shards[shard].split)
    return tuple(name for name, facts in shards.items() if (facts.dataset, facts.split) == own)


def check(task: Task) -> Checked:
    """Bytes first; the contents of those tars whose bytes are sound."""
    here = [column for column in task.columns if task.shard in column.manifest.shards]
    found = [list(verifying.check_shard(column, task.shard)) for column in here]
    faults = [fault for each in found for fault in each] + list(verifying.check_keys(here, task.shard))
    sound = [column for column, wrong in zip(here, found, strict=True) if not wrong]
    if not task.deep or not sound:
        return Checked(faults)
    deep, records = _contents(task, [column for column in sound if column.tar(task.shard).is_file()])
    place = task.columns[0].tar(task.shard)
    seen = [Seen(f"{place}/{key}", record.group, record.sha256) for key, record in records.items()]
    return Checked(faults + deep, seen)


def _contents(task: Task, sound: list[Column]) -> tuple[list[Fault], dict[str, Record]]:
    """Faults inside the members, and the records by key."""
    folder = task.columns[0].folder
    keys, faults = _keys(folder, task.beside), list[Fault]()
    records: dict[str, Record] = {}
    for column in sound:
        if isinstance(column.manifest, DataManifest):
            found, records = verifying_contents.check_records(column, task.shard, task.vocabulary, keys)
            faults += found
        elif isinstance(column.manifest, FeatureManifest):
            faults += verifying_contents.check_features(column, task.shard, column.manifest)
        else:
            faults += verifying_contents.check_negatives(column, task.shard, keys, records)
    return faults, records


@lru_cache(maxsize=1)  # a worker meets the shards of a split one after the other
def _keys(folder: Path, shards: tuple[str, ...]) -> frozenset[str]:
    """Keys of all records of a dataset and split whose index can be read."""
    return frozenset(key for shard in shards for key in verifying.keys(folder / f"{shard}.tar") or ())
