"""Write one tar and its index, reproducibly: sorted keys, the same members in every sample, no times."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import xxhash
from msgspec import Struct

from contract import tar
from contract.files import atomic_path
from contract.index import ABSENT, COUNTED, KEY, Index, index_path, row_type


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

    Samples must come in ascending order of key, each with one content per suffix (ValueError otherwise).
    """
    rows: list[tuple[object, ...]] = []
    digest, position, last = hashlib.sha256(), 0, ""
    with atomic_path(path) as beside:
        with beside.open("wb") as file:
            for sample in samples:
                _check(sample, suffixes, last)
                extents = [
                    tar.extent(f"{sample.key}.{suffix}", content)
                    for suffix, content in zip(suffixes, sample.members, strict=True)
                ]
                rows.append(_row(sample, extents, position))
                for extent in extents:
                    file.write(extent)
                    digest.update(extent)
                    position += len(extent)
                last = sample.key
            end = tar.trailer(position)
            file.write(end)
            digest.update(end)
        table = np.array(rows, row_type(len(suffixes))) if rows else np.zeros(0, row_type(len(suffixes)))
        Index(suffixes, table, position + len(end)).save(index_path(path))
    return Written(len(rows), position + len(end), digest.hexdigest())


def _row(sample: Sample, extents: list[bytes], start: int) -> tuple[object, ...]:
    lengths = [len(extent) for extent in extents]
    offsets = np.cumsum([start, *lengths[:-1]])
    sizes = [len(content) for content in sample.members]
    hashes = np.array([xxhash.xxh3_64_intdigest(extent) for extent in extents], np.uint64)
    return (sample.key.encode("ascii"), ABSENT * sample.absent, sample.texts, offsets, sizes, hashes)


def _check(sample: Sample, suffixes: Sequence[str], last: str) -> None:
    if not KEY.fullmatch(sample.key.encode()):
        raise ValueError(f"key {sample.key!r} is not 1 to 64 of [A-Za-z0-9_-]")
    if sample.key <= last:
        raise ValueError(f"key {sample.key!r} after {last!r}: keys must ascend")
    if len(sample.members) != len(suffixes):
        raise ValueError(f"{sample.key}: {len(sample.members)} members, expected {list(suffixes)}")
