"""Bytes of members out of tars, each checked against the hash in the index."""

import os
import resource
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import xxhash
from msgspec import Struct
from numpy.typing import NDArray

from contract import codec, tar
from contract.errors import ShardError
from contract.index import Index
from contract.record import Record, problems
from training.reading.meter import Meter

NPY_HEADER_LIMIT = 1024  # bytes; ours has 128
MAX_SAID = 3  # problems of one record
OPEN_FILES = 512  # at most; half of what the system allows, where that is less


class _Open(Struct):
    """An open tar and how many reads are using it."""

    descriptor: int
    readers: int = 0


class Tars:
    """Open tars, the least recently used closed when there are many; threads share a descriptor."""

    def __init__(self, most: int | None = None) -> None:
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = most or min(OPEN_FILES, allowed // 2)
        self._open: OrderedDict[Path, _Open] = OrderedDict()
        self._lock = Lock()
        self.meter = Meter()

    @contextmanager
    def descriptor(self, path: Path) -> Iterator[int]:
        """The descriptor of a tar, which stays open meanwhile; ShardError if the file has vanished."""
        with self._lock:
            entry = self._open.get(path) or _Open(_open(path))
            self._open[path] = entry
            self._open.move_to_end(path)
            entry.readers += 1
            self._close_idle()
        try:
            yield entry.descriptor
        finally:
            with self._lock:
                entry.readers -= 1

    def _close_idle(self) -> None:
        """Down to the limit, but for those in use."""
        idle = (path for path, entry in self._open.items() if not entry.readers)
        for path in [path for path, _ in zip(idle, range(len(self._open) - self._most), strict=False)]:
            os.close(self._open.pop(path).descriptor)

    def close(self) -> None:
        """Close every file."""
        for entry in self._open.values():
            os.close(entry.descriptor)
        self._open.clear()


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        raise ShardError(path, "vanished while the run was reading it", fix=f"dvc pull {path}") from None
    except OSError as error:
        raise ShardError(path, f"cannot be opened: {error.strerror}") from None


def read_member(tars: Tars, path: Path, index: Index, row: int, member: int) -> memoryview:
    """A member's payload, after its whole extent was checked."""
    offset, size = int(index.rows["offset"][row, member]), int(index.rows["size"][row, member])
    extent = bytearray(tar.BLOCK + tar.padded(size))
    _fill(tars, path, [memoryview(extent)], offset)
    if index.hashed:
        _check(tars, [memoryview(extent)], path, index, row, member)
    return memoryview(extent)[tar.BLOCK : tar.BLOCK + size]


def read_record(tars: Tars, path: Path, index: Index, row: int, vocabulary: int | None = None) -> Record:
    """A picture's record, decoded; ShardError unless it is sound and its tokens lie below `vocabulary`."""
    where = f"{path}: {index.key(row)}.json"
    content = read_member(tars, path, index, row, index.member("json", path))
    with tars.meter.measure("decode"):
        record = codec.decode_record(content, where)
        wrong = problems(record, vocabulary)
    if wrong:
        raise ShardError(where, "; ".join(wrong[:MAX_SAID]), fix="fetch or rebuild the shard")
    return record


def read_array(tars: Tars, path: Path, index: Index, row: int, suffix: str, out: NDArray[Any]) -> None:
    """Read one member's array straight into `out`, and check header, payload and padding.

    Without hashes the numbers themselves are all that can be checked: each must be finite.
    """
    member = index.member(suffix, path)
    offset, size = int(index.rows["offset"][row, member]), int(index.rows["size"][row, member])
    if not 0 < size - out.nbytes <= NPY_HEADER_LIMIT:
        raise _wrong_shape(_where(path, index, row, member), f"{size} bytes", out)
    head, padding = bytearray(tar.BLOCK + size - out.nbytes), bytearray(tar.padded(size) - size)
    parts = [memoryview(head), out.reshape(-1).view(np.uint8).data, memoryview(padding)]
    _fill(tars, path, parts, offset)
    if index.hashed:
        _check(tars, parts, path, index, row, member)
    dtype, shape = codec.array_header(memoryview(head)[tar.BLOCK :], _where(path, index, row, member))
    if dtype != out.dtype or shape != out.shape:
        raise _wrong_shape(_where(path, index, row, member), f"{dtype} {shape}", out)
    if not index.hashed and not np.isfinite(out).all():
        raise ShardError(_where(path, index, row, member), "holds numbers that are not finite")


def _check(tars: Tars, parts: Sequence[memoryview], path: Path, index: Index, row: int, member: int) -> None:
    digest = xxhash.xxh3_64()
    with tars.meter.measure("check"):
        for part in parts:
            digest.update(part)
    if digest.intdigest() != int(index.rows["hash"][row, member]):
        raise _damaged(path, index, row, member)


def _fill(tars: Tars, path: Path, parts: Sequence[memoryview], offset: int) -> None:
    expected = sum(len(part) for part in parts)
    with tars.descriptor(path) as descriptor, tars.meter.measure("disk"):
        try:
            found = os.preadv(descriptor, [part for part in parts if len(part)], offset)
        except OSError as error:
            raise ShardError(path, f"cannot be read at byte {offset}: {error.strerror}") from None
    if found != expected:
        raise ShardError(path, f"is cut at byte {offset + found}", fix=f"dvc pull {path}, or rebuild it")


def _where(path: Path, index: Index, row: int, member: int) -> str:
    return f"{path}: {index.key(row)}.{index.suffixes[member]}"


def _damaged(path: Path, index: Index, row: int, member: int) -> ShardError:
    name = f"{index.key(row)}.{index.suffixes[member]}"
    return ShardError(
        path,
        f"member {name} is damaged: its bytes do not have the hash in the index",
        fix="fetch or rebuild the shard",
    )


def _wrong_shape(where: str, found: str, out: NDArray[Any]) -> ShardError:
    return ShardError(where, "is not of the column's shape", found=found, expected=f"{out.dtype} {out.shape}")
