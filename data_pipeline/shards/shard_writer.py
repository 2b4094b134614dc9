"""Write one tar and its index, reproducibly: sorted keys, the same members in every sample, no times."""

import hashlib
from collections.abc import Iterable, Sequence
from io import FileIO
from pathlib import Path

import numpy as np
import xxhash
from msgspec import Struct

from contract import tar
from contract.files import atomic_path
from contract.index import ABSENT, COUNTED, KEY, Index, Rows, index_path, row_type

AT_ONCE = 1 << 20  # bytes


class Sample(Struct):
    """One sample. members: content per suffix, in the shard's order. texts: per contract.index.COUNTED."""

    key: str
    members: list[bytes]
    texts: tuple[int, ...] = (0,) * len(COUNTED)
    absent: bool = False


class Written(Struct):
    """What a finished tar is."""

    samples: int
    bytes: int
    sha256: str


def write_shard(path: Path, suffixes: Sequence[str], samples: Iterable[Sample]) -> Written:
    """Write `path` and its index; both appear whole or not at all.

    Samples must come in ascending order of key, each with one content per suffix, and no suffix may be there
    twice (ValueError otherwise).
    """
    if len(set(suffixes)) < len(suffixes):
        raise ValueError(f"a member is there twice: {', '.join(suffixes)}")
    with atomic_path(path) as beside:
        with beside.open("wb", buffering=0) as file:
            out = _Out(file)
            known = _rows(suffixes, samples, out)
            out.add(tar.trailer(out.position))
            out.flush()
        Index(suffixes, known, out.position).save(index_path(path))
    return Written(len(known), out.position, out.digest.hexdigest())


class _Out:
    """The tar as it grows, hashed and written some pieces at a time."""

    def __init__(self, file: FileIO) -> None:
        self._file, self._pieces, self._waiting = file, list[bytes](), 0
        self.digest, self.position = hashlib.sha256(), 0

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._waiting += len(piece)
        self.position += len(piece)
        if self._waiting >= AT_ONCE:
            self.flush()

    def flush(self) -> None:
        block = memoryview(b"".join(self._pieces))
        self._pieces.clear()
        self._waiting = 0
        self.digest.update(block)
        while block:
            block = block[self._file.write(block) :]


def _rows(suffixes: Sequence[str], samples: Iterable[Sample], out: _Out) -> Rows:
    """Hand every extent to `out` → the rows of the index."""
    heads: list[tuple[object, ...]] = []
    members: list[tuple[int, int, int]] = []
    last = ""
    for sample in samples:
        _check(sample, suffixes, last)
        last = sample.key
        heads.append((sample.key.encode("ascii"), ABSENT * sample.absent, sample.texts))
        for suffix, content in zip(suffixes, sample.members, strict=True):
            extent = tar.extent(f"{sample.key}.{suffix}", content)
            members.append((out.position, len(content), xxhash.xxh3_64_intdigest(extent)))
            out.add(extent)
    rows = np.zeros(len(heads), row_type(len(suffixes)))
    if heads:
        rows["key"], rows["flags"], rows["texts"] = zip(*heads, strict=True)
        table = np.array(members, np.uint64).reshape(len(heads), len(suffixes), 3)
        rows["offset"], rows["size"], rows["hash"] = np.moveaxis(table, 2, 0)
    return rows


def _check(sample: Sample, suffixes: Sequence[str], last: str) -> None:
    if not KEY.fullmatch(sample.key.encode()):
        raise ValueError(f"key {sample.key!r} is not 1 to 64 of [A-Za-z0-9_-]")
    if sample.key <= last:
        raise ValueError(f"key {sample.key!r} after {last!r}: keys must ascend")
    if len(sample.members) != len(suffixes):
        raise ValueError(f"{sample.key}: {len(sample.members)} members, expected {list(suffixes)}")
