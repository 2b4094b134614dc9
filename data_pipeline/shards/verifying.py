"""A folder of shards and its columns against manifests and indexes: every byte, count and key.

Nothing stops at the first fault: each is a Fault, and the rest is checked as far as it can be. Where the
system lacks room, for files or for what is read, no file is to blame: that is a NoRoomError, and ends it all.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import xxhash
from msgspec import Struct

from contract import index, manifest, tar
from contract.errors import FuselineError, NoRoomError, unreadable
from contract.files import BLOCK, sha256_file
from contract.index import Index, index_path
from contract.manifest import DataManifest, ExportManifest, FeatureManifest, NegativesManifest, ShardFacts

T = TypeVar("T", DataManifest, FeatureManifest, NegativesManifest, ExportManifest)
AnyManifest = DataManifest | FeatureManifest | NegativesManifest | ExportManifest
FETCH = "fetch it again (dvc pull {}), or rebuild it (dvc repro)"
REPRO = "build the column again (dvc repro)"
NEGATIVES = "neg.json"


class Fault(Struct, frozen=True):
    """Something wrong. where: the file. fix: what to do about it."""

    where: str
    problem: str
    fix: str


class Column(Struct):
    """A folder of tars: the records, the features of one encoder, the negatives, or all of them exported."""

    folder: Path
    manifest: AnyManifest

    def tar(self, shard: str) -> Path:
        return self.folder / f"{shard}.tar"

    @property
    def records(self) -> DataManifest | ExportManifest | None:
        """What is known of the records, where the tars hold them."""
        return self.manifest if isinstance(self.manifest, DataManifest | ExportManifest) else None

    @property
    def features(self) -> list[FeatureManifest]:
        """What is known of the encoders whose arrays the tars hold, in their order."""
        if isinstance(self.manifest, ExportManifest):
            return list(self.manifest.features.values())
        return [self.manifest] if isinstance(self.manifest, FeatureManifest) else []

    @property
    def negatives(self) -> NegativesManifest | None:
        """What is known of the negatives, where the tars hold them."""
        if isinstance(self.manifest, ExportManifest):
            return self.manifest.negatives
        return self.manifest if isinstance(self.manifest, NegativesManifest) else None

    @property
    def suffixes(self) -> list[list[str]]:
        """The lists of members that a sample may have."""
        beside = [suffix for known in self.features for suffix in known.suffixes]
        beside += [NEGATIVES] if self.negatives else []
        return [["json", *beside], ["json", "jpg", *beside]] if self.records else [beside]


def fault(path: Path, problem: str, fix: str | None = None) -> Fault:
    """A fault of a file, which fetching or rebuilding it mends unless said otherwise."""
    return Fault(str(path), problem, fix or FETCH.format(path))


def of_error(error: FuselineError) -> Fault:
    """What a reader would have stopped at. A lack of room is raised."""
    if isinstance(error, NoRoomError):
        raise error
    details = [
        f"{name} {value}" for name in ("found", "expected") if (value := getattr(error, name)) is not None
    ]
    problem = f"{error.problem} ({', '.join(details)})" if details else error.problem
    return Fault(error.where, problem, error.fix or FETCH.format(error.where))


def counted(number: int, thing: str) -> str:
    """`1 fault`, `2 faults`."""
    return f"{number} {thing}{'s' * (number != 1)}"


def columns(data: Path) -> tuple[list[Column], list[Fault]]:
    """The records in `data`, then the columns beside it; and the manifests that cannot be read.

    An export is its only column.
    """
    try:
        return [_load(data, ExportManifest)], []
    except NoRoomError:
        raise
    except FuselineError:
        pass  # no export, so `data` must hold records: what is wrong with those is said below
    loads = [partial(_load, data, DataManifest)]
    loads += [partial(_load, place, FeatureManifest) for place in sorted(data.parent.glob("features/[!.]*/"))]
    loads += [partial(_load, place, NegativesManifest) for place in data.parent.glob("negatives/")]
    found, faults = list[Column](), list[Fault]()
    for load in loads:
        try:
            found.append(load())
        except FuselineError as error:
            faults.append(of_error(error))
    return found, faults


def _load(folder: Path, kind: type[T]) -> Column:
    return Column(folder, manifest.load(folder, kind))


def known_shards(found: Iterable[Column]) -> dict[str, ShardFacts]:
    """The shards that any column names, with what the first to name one says of it."""
    facts: dict[str, ShardFacts] = {}
    for column in found:
        facts = column.manifest.shards | facts
    return facts


def check_folders(found: Sequence[Column]) -> Iterator[Fault]:
    """Files that are missing or too many. Every column must have the shards of the first."""
    first = found[0]
    for column in found:
        yield from _check_files(column)
        for shard in sorted(set(first.manifest.shards) ^ set(column.manifest.shards)):
            lacking = first.folder if shard in column.manifest.shards else column.folder
            yield fault(column.tar(shard), f"is a shard that {lacking} lacks", REPRO)
        if column.records:
            tokenizer = column.folder / "tokenizer.json"
            yield from _read(tokenizer, _check_tokenizer(tokenizer, column.records))


def _check_files(column: Column) -> Iterator[Fault]:
    """The files of a folder against its manifest."""
    listed = set(column.manifest.shards)
    there = {path.name.removesuffix(".tar") for path in column.folder.glob("*.tar")}
    indexed = {path.name.removesuffix(".tar.idx") for path in column.folder.glob("*.tar.idx")}
    for shard in sorted(listed - there):
        yield fault(column.tar(shard), "is missing")
    for shard in sorted(listed - indexed):
        yield fault(index_path(column.tar(shard)), "is missing: readers would not notice a damaged payload")
    for shard in sorted((there | indexed) - listed):
        yield fault(
            column.tar(shard), "is not in the manifest", "remove it and its index, or rebuild the folder"
        )


def check_agreement(found: Sequence[Column]) -> Iterator[Fault]:
    """What one manifest says of a shard or an encoder against what another says of it."""
    first, weights = found[0], {known.encoder: known.weights for one in found for known in one.features}
    for column in found:
        path, mined = column.folder / manifest.NAME, column.negatives
        for shard, facts in sorted(column.manifest.shards.items()):
            known = first.manifest.shards.get(shard, facts)
            if _described(facts) != _described(known):
                problem = f"shard {shard} is {_described(facts)}; {first.folder} says {_described(known)}"
                yield fault(path, problem, REPRO)
        if mined and mined.encoder in weights and mined.weights != weights[mined.encoder].sha256:
            problem = f"was mined with other weights than those of the {mined.encoder} features"
            yield fault(path, problem, REPRO)


def _described(facts: ShardFacts) -> str:
    return f"{facts.samples} pictures of {facts.dataset} {facts.split}"


def _check_tokenizer(path: Path, known: DataManifest | ExportManifest) -> Iterator[Fault]:
    if not path.is_file():
        yield fault(path, "is missing")
    elif sha256_file(path) != known.tokenizer.sha256:
        yield fault(path, "is not the tokenizer that made the tokens")


def check_shard(column: Column, shard: str) -> Iterator[Fault]:
    """One tar: its index, its counts and the hash of each of its bytes."""
    path, facts = column.tar(shard), column.manifest.shards[shard]
    if not path.is_file():
        return  # check_folders says so
    known = None
    try:
        known = index.load(path)
    except FuselineError as error:
        yield of_error(error)
    if known and known.hashed:
        yield from _read(index_path(path), _check_index(column, path, known, facts))
    yield from _read(path, _check_bytes(path, known if known and known.hashed else None, facts))


def _read(path: Path, faults: Iterator[Fault]) -> Iterator[Fault]:
    """Faults of a file, of which the last may be that it cannot be read."""
    try:
        yield from faults
    except FuselineError as error:
        yield of_error(error)
    except OSError as error:
        yield of_error(unreadable(path, error))


def _check_index(column: Column, path: Path, known: Index, facts: ShardFacts) -> Iterator[Fault]:
    """The index against the manifest."""
    if facts.index and sha256_file(index_path(path)) != facts.index:
        yield fault(index_path(path), "is not the index that the manifest names")
    if len(known) != facts.samples:
        yield fault(path, f"holds {len(known)} samples; the manifest says {facts.samples}")
    if len(known) and list(known.suffixes) not in column.suffixes:
        expected = " or ".join(", ".join(names) for names in column.suffixes)
        yield fault(path, f"holds members .{', .'.join(known.suffixes)}; this column has .{expected}")
    counted = dict(zip(index.COUNTED, known.rows["texts"].sum(0).tolist(), strict=True))
    if facts.texts and counted != facts.texts:
        yield fault(path, f"its index counts {counted} texts; the manifest says {facts.texts}")


def _check_bytes(path: Path, known: Index | None, facts: ShardFacts) -> Iterator[Fault]:
    """Every byte, read once: each member's hash, and that of the whole file."""
    digest, damaged = hashlib.sha256(), []
    with tar.open_shard(path) as file:
        for name, piece, expected in _pieces(file, known):
            digest.update(piece)
            if name and xxhash.xxh3_64_intdigest(piece) != expected:
                damaged.append(name)
    if damaged:
        more = f" and {len(damaged) - 3} more" if len(damaged) > 3 else ""
        yield fault(path, f"damaged: {', '.join(damaged[:3])}{more}")
    elif digest.hexdigest() != facts.sha256:
        yield fault(path, "is not the file that the manifest names: its sha256 differs")


def _pieces(file: BinaryIO, known: Index | None) -> Iterator[tuple[str, bytes, int]]:
    """(member, its extent, its hash), and what lies outside of members as ("", some bytes, 0)."""
    for name, offset, size, hashed in _members(known) if known else ():
        while gap := file.read(min(BLOCK, offset - file.tell())):
            yield "", gap, 0
        yield name, file.read(tar.BLOCK + tar.padded(size)), hashed
    while block := file.read(BLOCK):
        yield "", block, 0


def _members(known: Index) -> Iterator[tuple[str, int, int, int]]:
    """(name, offset, size, hash) in the order of the tar."""
    for key, row in zip(known.keys(), known.rows, strict=True):
        places = zip(
            known.suffixes, row["offset"].tolist(), row["size"].tolist(), row["hash"].tolist(), strict=True
        )
        for suffix, offset, size, hashed in places:
            yield f"{key}.{suffix}", offset, size, hashed


def check_keys(found: Sequence[Column], shard: str) -> Iterator[Fault]:
    """The columns' keys against those of the records, which come first."""
    first, *others = [column.tar(shard) for column in found]
    known = keys(first)
    for path in others:
        other = keys(path)
        if known is not None and other is not None and known != other:
            odd = sorted(set(known) ^ set(other))
            such = f"{counted(len(odd), 'key')} not in both, such as {odd[0]}" if odd else "in another order"
            yield fault(path, f"its keys are not those of {first}: {such}")


def keys(path: Path) -> list[str] | None:
    """Keys of a tar; None where it or its index cannot be read, which check_shard reports."""
    try:
        return index.load(path).keys()
    except NoRoomError:
        raise
    except FuselineError:
        return None
