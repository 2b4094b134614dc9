"""Bytes of members out of tars, each checked against the hash in the index."""

import os
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from contract import codec, tar
from contract.errors import ShardError
from contract.index import Index
from contract.record import Record, problems

NPY_HEADER_LIMIT = 1024  # bytes; ours has 128
MAX_SAID = 3  # problems of one record


class Tars:
    """File descriptors, opened when first needed and kept. Reads carry their offset, so threads share one."""

    def __init__(self) -> None:
        self._open: dict[Path, int] = {}
        self._lock = Lock()

    def descriptor(self, path: Path) -> int:
        """The descriptor of a tar; ShardError if it has vanished."""
        with self._lock:
            if path not in self._open:
                self._open[path] = _open(path)
            return self._open[path]

    def close(self) -> None:
        """Close every file."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        raise ShardError(path, "vanished while the run was reading it", fix=f"dvc pull {path}") from None


def read_member(tars: Tars, path: Path, index: Index, row: int, member: int) -> memoryview:
    """A member's payload, after its whole extent was checked."""
    offset, size = int(index.rows["offset"][row, member]), int(index.rows["size"][row, member])
    extent = bytearray(tar.BLOCK + tar.padded(size))
    _fill(tars.descriptor(path), [memoryview(extent)], offset, path)
    if index.hashed and xxhash.xxh3_64_intdigest(extent) != int(index.rows["hash"][row, member]):
        raise _damaged(path, index, row, member)
    return memoryview(extent)[tar.BLOCK : tar.BLOCK + size]


def read_record(tars: Tars, path: Path, index: Index, row: int, vocabulary: int | None = None) -> Record:
    """A picture's record, decoded; ShardError unless it is sound and its tokens lie below `vocabulary`."""
    where = f"{path}: {index.rows['key'][row].decode()}.json"
    record = codec.decode_record(read_member(tars, path, index, row, index.member("json", path)), where)
    if wrong := problems(record, vocabulary):
        raise ShardError(where, "; ".join(wrong[:MAX_SAID]), fix="fetch or rebuild the shard")
    return record


def read_array(tars: Tars, path: Path, index: Index, row: int, suffix: str, out: NDArray[Any]) -> None:
    """Read one member's array straight into `out`, and check header, payload and padding."""
    member = index.member(suffix, path)
    offset, size = int(index.rows["offset"][row, member]), int(index.rows["size"][row, member])
    where = f"{path}: {index.rows['key'][row].decode()}.{suffix}"
    if not 0 < size - out.nbytes <= NPY_HEADER_LIMIT:
        raise _wrong_shape(where, f"{size} bytes", out)
    head, padding = bytearray(tar.BLOCK + size - out.nbytes), bytearray(tar.padded(size) - size)
    parts = [memoryview(head), out.reshape(-1).view(np.uint8).data, memoryview(padding)]
    _fill(tars.descriptor(path), parts, offset, path)
    digest = xxhash.xxh3_64()
    for part in parts:
        digest.update(part)
    if index.hashed and digest.intdigest() != int(index.rows["hash"][row, member]):
        raise _damaged(path, index, row, member)
    dtype, shape = codec.array_header(memoryview(head)[tar.BLOCK :], where)
    if dtype != out.dtype or shape != out.shape:
        raise _wrong_shape(where, f"{dtype} {shape}", out)


def _fill(descriptor: int, parts: Sequence[memoryview], offset: int, path: Path) -> None:
    expected = sum(len(part) for part in parts)
    found = os.preadv(descriptor, [part for part in parts if len(part)], offset)
    if found != expected:
        raise ShardError(path, f"is cut at byte {offset + found}", fix=f"dvc pull {path}, or rebuild it")


def _damaged(path: Path, index: Index, row: int, member: int) -> ShardError:
    name = f"{index.rows['key'][row].decode()}.{index.suffixes[member]}"
    return ShardError(
        path,
        f"member {name} is damaged: its bytes do not have the hash in the index",
        fix="fetch or rebuild the shard",
    )


def _wrong_shape(where: str, found: str, out: NDArray[Any]) -> ShardError:
    return ShardError(where, "is not of the column's shape", found=found, expected=f"{out.dtype} {out.shape}")
