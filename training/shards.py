"""Open shards: expand patterns, check manifests against each other, line the columns up."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from tokenizers import Tokenizer

from contract import index
from contract.errors import MismatchError, ShardError, unreadable
from contract.files import sha256_file
from contract.index import ABSENT, COUNTED, Index
from contract.manifest import DataManifest, FeatureManifest, ShardFacts
from contract.patterns import Named, expand, fetch, holdings
from training.reading import sources
from training.reading.sources import Source
from training.reading.tars import Tars
from training.reading.unindexed import complete_column, complete_records, fingerprint
from training.reading.unlisted import UNLISTED

TRAIN = "train"
OPENERS = 4  # threads that load and check indexes, which is hashing for the most part
RECORD_FIELDS = ("texts", "offset", "size", "hash")  # what is kept of an index while training
COLUMN_FIELDS = ("flags", "offset", "size", "hash")


class Place(Struct, frozen=True):
    """A picture among the shards of a ShardSet."""

    shard: int
    row: int


class Column(Struct):
    """One feature column of one shard; `path` is the record shard's where that is self-contained.

    fingerprint: of all its bytes, or of its size and headers where it has no index.
    """

    path: Path
    index: Index
    fingerprint: str


class Shard(Struct):
    """One record shard and its columns, keys in the same order. fingerprint: as of a column."""

    path: Path
    dataset: str
    split: str
    index: Index
    fingerprint: str
    columns: dict[str, Column]


class ShardSet:
    """Shards of one folder that were built together.

    tokenizer: file of the tokenizer behind every `tokens`; vocabulary: how many it knows. answers: the
    answer vocabulary. left_out: shards of other splits that a glob or folder named. notes: what a person
    should be told about these files, one line each.
    """

    def __init__(self, source: Source, shards: list[Shard], left_out: int, vocabulary: int) -> None:
        self.source, self.folder = source, source.folder
        self.data, self.features = source.data, source.features
        self.shards, self.left_out = shards, left_out
        self.tokenizer = source.tokenizer
        self.vocabulary, self.answers = vocabulary, source.data.answers
        self.notes = [*source.notes(), *_notes(shards)]

    def usable(self, shard: Shard, counted: Iterable[str]) -> NDArray[np.uint32]:
        """Rows of a shard with a text for one of `counted`, if any is, and a feature in every column."""
        wanted = [COUNTED.index(name) for name in counted]
        usable: NDArray[np.bool_] = np.ones(len(shard.index), np.bool_)
        if wanted:
            usable &= (shard.index.rows["texts"][:, wanted] > 0).any(axis=1)
        for column in shard.columns.values():
            usable &= (column.index.rows["flags"] & ABSENT) == 0
        return np.flatnonzero(usable).astype(np.uint32)

    def has_features(self, place: Place) -> bool:
        """Whether there is a feature of a picture in every column."""
        columns = self.shards[place.shard].columns.values()
        return not any(column.index.rows["flags"][place.row] & ABSENT for column in columns)

    def eligible(self, counted: Iterable[str]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """(shard, row) of every usable picture of all shards."""
        wanted = set(counted)
        rows = [self.usable(shard, wanted) for shard in self.shards]
        numbers = np.arange(len(rows), dtype=np.uint32)
        return np.repeat(numbers, [len(of_shard) for of_shard in rows]), np.concatenate(rows)


def open_shards(
    patterns: Sequence[str],
    columns: Sequence[str],
    *,
    split: str = TRAIN,
    allow_split: bool = False,
    other_split: str = "say --allow-split if you mean it",
    features: Path | None = None,
    tokenizer: Path | None = None,
    answers: Sequence[str] | None = None,
    on_error: str = "stop",
) -> ShardSet:
    """Open the shards of one split. columns: names of the feature columns that will be read.

    A shard of another split is left out when a glob or folder named it, and an error when it was named
    itself, unless `allow_split`; other_split: what the command has for one who means it. features: the folder
    of the columns, if not `features` beside `data`. tokenizer, answers: of shards without a manifest, whose
    every other word is taken as it is. on_error: as of the stream; without an index every record is read
    here, and `skip` leaves to it those that cannot be.
    """
    named = expand(patterns)
    folder = _one_folder(named)
    source = sources.find(
        [shard.path for shard in named],
        columns,
        split=split,
        beside=features,
        tokenizer=tokenizer,
        answers=answers,
    )
    data = source.data
    chosen = _choose_split(named, data, split, allow_split, other_split)
    if any(shard.whole for shard in named):
        _check_whole(folder, chosen, data, split)
    if not chosen:
        splits = sorted({data.shards[shard.path.stem].split for shard in named})
        raise ShardError(
            " ".join(patterns),
            f"names no shard of split '{split}'",
            found=f"{len(named)} of {', '.join(splits)}",
            fix=f"name others, or these by a range or one by one: {other_split}",
        )
    vocabulary = _check_tokenizer(source.tokenizer, data)
    with closing(Tars()) as tars, ThreadPoolExecutor(OPENERS, "open") as openers:
        shards = list(openers.map(lambda path: _open(path, source, tars, on_error == "skip"), chosen))
    return ShardSet(source, shards, len(named) - len(chosen), vocabulary)


def _one_folder(named: list[Named]) -> Path:
    folders = sorted({shard.path.parent for shard in named})
    if len(folders) > 1:
        raise MismatchError(
            ", ".join(map(str, folders)),
            "shards of several folders in one run: each has its own tokenizer and answer vocabulary",
            fix="build them together, as datasets of one params.yaml",
        )
    return folders[0]


def _choose_split(
    named: list[Named], data: DataManifest, split: str, allow_split: bool, other_split: str
) -> list[Path]:
    chosen = []
    for shard in named:
        facts = data.shards.get(shard.path.stem)
        if facts is None:
            raise MismatchError(
                shard.path, "is not in the manifest of its folder", fix="rebuild it: dvc repro"
            )
        if facts.split == split or (shard.explicit and allow_split):
            chosen.append(shard.path)
        elif shard.explicit:
            raise ShardError(
                shard.path,
                f"is of split '{facts.split}', and this run reads '{split}'",
                fix=f"leave it out, or {other_split}",
            )
    return chosen


def _check_whole(folder: Path, chosen: list[Path], data: DataManifest, split: str) -> None:
    """A folder must hold every shard of the split; what was left behind would not be missed in training."""
    wanted = {name for name, facts in data.shards.items() if facts.split == split}
    missing = sorted(wanted - {path.stem for path in chosen})
    if missing:
        raise ShardError(
            folder,
            f"lacks {len(missing)} of the {len(wanted)} shards of split '{split}' in its manifest: "
            + ", ".join(missing),
            found=holdings(folder),
            fix=fetch(str(folder)) + "; or name those to read, or a glob",
        )


def _check_tokenizer(path: Path, data: DataManifest) -> int:
    """The size of the tokenizer's vocabulary, once it is the file that the manifest names."""
    found = _digest(path)
    if found != data.tokenizer.sha256:
        raise MismatchError(
            path,
            "tokenizer: not the file that made the tokens of these shards",
            found=found,
            expected=data.tokenizer.sha256,
            fix=f"dvc pull {path}, or rebuild the shards",
        )
    return int(read_tokenizer(path).get_vocab_size())


def read_tokenizer(path: Path) -> Tokenizer:
    """That of a file. MismatchError where there is none, or it is damaged."""
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        fix = "put back the file that made the tokens of the shards, or rebuild them"
        raise MismatchError(path, f"is no tokenizer: {error}", fix=fix) from None


def _digest(path: Path) -> str:
    try:
        return sha256_file(path)
    except FileNotFoundError:
        return "no such file"
    except OSError as error:
        raise unreadable(path, error) from None


def _open(path: Path, source: Source, tars: Tars, skips: bool) -> Shard:
    whole, facts = index.load(path), source.data.shards[path.stem]
    if source.listed:
        check_facts(path, whole, source.data.shards)
    if not whole.hashed:
        complete_records(tars, path, whole, skips)
    records = whole.only(["json"], path).lean(RECORD_FIELDS)
    columns = {
        name: _open_column(name, path, whole, records, source, tars, skips) for name in source.features
    }
    return Shard(path, facts.dataset, facts.split, records, facts.index or fingerprint(whole), columns)


def _open_column(
    name: str, shard: Path, whole: Index, records: Index, source: Source, tars: Tars, skips: bool
) -> Column:
    """whole: the index of the record shard with every member, among them perhaps the column's."""
    path, known = source.column(name, shard), source.features[name]
    tar = whole if path == shard else _beside(path, shard, records, known)
    found = tar.only(known.suffixes, path)
    if path == shard or not found.hashed:  # where several columns share a row, its flags are of none
        complete_column(tars, path, found, known, skips)
    facts = known.shards.get(path.stem)
    stated = facts.index if facts else ""
    return Column(path, found.lean(COLUMN_FIELDS, records.names), stated or fingerprint(found))


def _beside(path: Path, shard: Path, records: Index, known: FeatureManifest) -> Index:
    found = index.load(path)
    check_keys(path, found, shard, records)
    if known.weights.source != UNLISTED:
        check_facts(path, found, known.shards)
    return found


def check_keys(path: Path, found: Index, shard: Path, records: Index) -> None:
    """MismatchError unless the tar at `path` holds the pictures of the record shard, in its order."""
    if found.names.tobytes() != records.names.tobytes():
        raise MismatchError(
            path,
            f"keys: not the same pictures as {shard}",
            found=f"{len(found)} keys",
            expected=f"{len(records)} keys in the same order",
            fix="the two were built from different catalogues: rebuild both (dvc repro)",
        )


def check_facts(path: Path, found: Index, known: Mapping[str, ShardFacts]) -> None:
    """MismatchError unless the manifest beside a tar describes it: its size, and its index if it has one."""
    facts = known.get(path.stem)
    if facts is None:
        raise MismatchError(path, "is not in the manifest of its folder", fix="rebuild it: dvc repro")
    hashed = found.sha256 if found.hashed else facts.index
    if (len(found), found.tar_bytes, hashed) != (facts.samples, facts.bytes, facts.index):
        raise MismatchError(
            path,
            "is not the shard that its manifest describes",
            found=f"{len(found)} samples, {found.tar_bytes} bytes, index {hashed[:16]}",
            expected=f"{facts.samples} samples, {facts.bytes} bytes, index {facts.index[:16]}",
            fix="fetch or rebuild the folder as a whole",
        )


def _notes(shards: list[Shard]) -> list[str]:
    """A line per folder in which shards lie without their index."""
    opened = [(shard.path, shard.index) for shard in shards]
    opened += [(column.path, column.index) for shard in shards for column in shard.columns.values()]
    bare = Counter(path.parent for path in {path for path, known in opened if not known.hashed})
    return [
        f"{count} shard{'s' * (count > 1)} of {folder}/ without an index: payload bits are not checked"
        for folder, count in sorted(bare.items())
    ]
