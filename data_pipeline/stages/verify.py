"""Check a folder of record shards and the columns beside it: manifests, counts, and the hash of every byte.

--deep also decodes every record, array and negative of the tars that are whole, counts the answers again, and
looks for pictures that train and evaluation share. An export is checked the same way.
Prints every fault; exit status 1 when there is one.
"""

import argparse
import os
from collections import Counter
from functools import lru_cache
from pathlib import Path

from msgspec import Struct, field

from contract.errors import ParamsError, ShardError
from contract.manifest import NAME, DataManifest, ShardFacts
from contract.record import Record
from data_pipeline.command_line import add_workers
from data_pipeline.engine import run_tasks
from data_pipeline.pictures.placement import TRAIN
from data_pipeline.shards import verifying, verifying_contents
from data_pipeline.shards.verifying import Column, Fault
from data_pipeline.shards.verifying_contents import Seen
from data_pipeline.texts import tokenizer_file


class Task(Struct):
    """One shard in all its columns, the records first where there are any.

    beside: the shards of its dataset and split. vocabulary: size of the tokenizer's, if it can be read.
    """

    columns: list[Column]
    shard: str
    beside: tuple[str, ...]
    vocabulary: int | None
    deep: bool


class Checked(Struct):
    """What a task found. seen, answers: of the records that could be read, if it was deep."""

    faults: list[Fault]
    seen: list[Seen] = []
    answers: Counter[str] = field(default_factory=Counter)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which folder, how thoroughly."""
    parser.add_argument(
        "data", type=Path, nargs="?", default=Path("data"), help="folder of records (default: data)"
    )
    parser.add_argument("--deep", action="store_true", help="decode every member; look for leakage")
    add_workers(parser, "processes")


def run(args: argparse.Namespace) -> int:
    """Print what is wrong; 1 if anything is."""
    if not args.data.is_dir():
        fix = f"fetch it (dvc pull {args.data}) or build it (dvc repro)"
        raise ShardError(args.data, "no such folder", fix=fix)
    columns, faults = verifying.columns(_named(args.data))
    if columns:
        faults += verify(columns, args.deep, args.workers)
    for fault in faults:
        print(f"{fault.where}: {fault.problem}\n  fix:      {fault.fix}")
    places = verifying.counted(len({fault.where for fault in faults}), "place")
    said = f"{verifying.counted(len(faults), 'fault')} in {places}" if faults else "sound"
    print(f"{args.data}: {_extent(columns, args.deep)}: {said}")
    return 1 if faults else 0


def _named(folder: Path) -> Path:
    """The folder as typed, so that its files are named like it; `.` and `..` do not say what it is in."""
    if folder.name not in ("", ".."):
        return folder
    whole = folder.resolve()
    return Path(os.path.relpath(whole.parent), whole.name)


def _extent(columns: list[Column], deep: bool) -> str:
    """How much was read."""
    tars = sum(column.tar(shard).is_file() for column in columns for shard in column.manifest.shards)
    depth = "every byte and every member" if deep else "every byte"
    folders = verifying.counted(len(columns), "folder")
    return f"{verifying.counted(tars, 'tar')} in {folders}, {depth} checked" if tars else "nothing checked"


def verify(columns: list[Column], deep: bool, workers: int) -> list[Fault]:
    """Every fault of the columns, of which the first says what the others must agree with: the records."""
    shards = verifying.known_shards(columns)
    faults = [*verifying.check_folders(columns), *verifying.check_agreement(columns)]
    vocabulary = _vocabulary(columns[0], faults) if deep else None
    tasks = [
        Task(columns, shard, _beside(shards, shard), vocabulary, deep and shard in columns[0].manifest.shards)
        for shard in sorted(shards)
    ]
    train, evaluation = list[Seen](), list[Seen]()
    answers: Counter[str] = Counter()
    for task, checked in zip(tasks, run_tasks(check, tasks, workers, label="verify"), strict=True):
        faults += checked.faults
        if shards[task.shard].split == TRAIN:
            train += checked.seen
            answers.update(checked.answers)
        else:
            evaluation += checked.seen
    faults += verifying_contents.leakage(train, evaluation)
    whole = len(train) == sum(facts.samples for facts in shards.values() if facts.split == TRAIN)
    return faults + (_check_answers(columns[0], answers) if deep and whole else [])


def _check_answers(records: Column, counted: Counter[str]) -> list[Fault]:
    """The vocabulary recounted; an export may hold only some of the shards that made its own."""
    if not isinstance(records.manifest, DataManifest):
        return []
    path = records.folder / NAME
    return list(verifying_contents.check_answers(path, records.manifest.answers, counted))


def _vocabulary(first: Column, faults: list[Fault]) -> int | None:
    """How many tokens there are, where there are records."""
    if not first.records:
        return None
    path = first.folder / "tokenizer.json"
    try:
        return tokenizer_file.load(str(path)).get_vocab_size()
    except ParamsError as error:
        faults.append(verifying.fault(path, f"is no tokenizer: {error.found}"))
        return None


def _beside(shards: dict[str, ShardFacts], shard: str) -> tuple[str, ...]:
    """The shards that a text or neighbour of this one may name pictures of."""
    own = (shards[shard].dataset, shards[shard].split)
    return tuple(name for name, facts in shards.items() if (facts.dataset, facts.split) == own)


def check(task: Task) -> Checked:
    """Bytes first; the contents of those tars whose bytes are sound."""
    here = [column for column in task.columns if task.shard in column.manifest.shards]
    found = [list(dict.fromkeys(verifying.check_shard(column, task.shard))) for column in here]
    faults = [fault for each in found for fault in each] + list(verifying.check_keys(here, task.shard))
    sound = [column for column, wrong in zip(here, found, strict=True) if not wrong]
    if not task.deep or not sound:
        return Checked(faults)
    deep, records = _contents(task, [column for column in sound if column.tar(task.shard).is_file()])
    place = task.columns[0].tar(task.shard)
    seen = [Seen(f"{place}/{key}", record.group, record.sha256) for key, record in records.items()]
    return Checked(faults + deep, seen, verifying_contents.answers(records.values()))


def _contents(task: Task, sound: list[Column]) -> tuple[list[Fault], dict[str, Record]]:
    """Faults inside the members, and the records by key."""
    folder = task.columns[0].folder
    keys, faults = _keys(folder, task.beside), list[Fault]()
    records: dict[str, Record] = {}
    for column in sound:
        if column.records:
            found, records = verifying_contents.check_records(column, task.shard, task.vocabulary, keys)
            faults += found
        for known in column.features:
            faults += verifying_contents.check_features(column, task.shard, known)
        if column.negatives:
            faults += verifying_contents.check_negatives(column, task.shard, keys, records)
    return faults, records


@lru_cache(maxsize=1)  # a worker meets the shards of a split one after the other
def _keys(folder: Path, shards: tuple[str, ...]) -> frozenset[str]:
    """Keys of all records of a dataset and split whose index can be read."""
    return frozenset(key for shard in shards for key in verifying.keys(folder / f"{shard}.tar") or ())
