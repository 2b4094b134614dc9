"""Members out of tars, each checked against the hash in the index.

Threads read side by side only as long as they leave Python alone: a read is a few calls on what was looked
up before, and nothing is locked.
"""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from contract import codec, tar
from contract.errors import ShardError, unreadable
from contract.index import ABSENT, Index
from contract.record import Record, problems
from training.reading.tars import Tars

NPY_HEADER_LIMIT = 1024  # bytes; ours has 128
MAX_SAID = 3  # problems of one record


class Member:
    """One member of every sample of a tar: where each lies, and the hash of its extent."""

    def __init__(self, path: Path, index: Index, suffix: str) -> None:
        number = index.member(suffix, path)
        self.path, self.index, self.suffix = path, index, suffix
        self.offset, self.size, self.hash = (index.rows[of][:, number] for of in ("offset", "size", "hash"))

    def where(self, row: int) -> str:
        """What an error calls it."""
        return f"{self.path}: {self.index.key(row)}.{self.suffix}"

    def absent(self, row: int) -> bool:
        """Whether the encoder could not take the picture."""
        return bool(self.index.rows["flags"].item(row) & ABSENT)


class Rows:
    """An array [P, …] of a batch, C-contiguous; each row takes one member's numbers."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array
        self.shape, self.dtype = array.shape[1:], array.dtype
        self.nbytes = array[:1].nbytes
        self.bytes = array.reshape(-1).view(np.uint8).data
        self.known_header = bytearray()  # of the npy that was looked at last: the same bytes mean the same


class Reader:
    """Reads for one thread; at its end, what it spent goes to the tars' meter."""

    def __init__(self, tars: Tars) -> None:
        self._tars = tars
        self.disk = self.check = 0.0  # seconds

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._tars.meter.add(disk=self.disk, check=self.check)

    def announce(self, member: Member, row: int) -> None:
        """Let the system begin to read a member that will be asked for soon."""
        if hasattr(os, "posix_fadvise"):
            tar_file, size = self._tars.open(member.path), tar.BLOCK + member.size.item(row)
            with suppress(OSError):  # advice only: some file systems take none
                os.posix_fadvise(tar_file.descriptor, member.offset.item(row), size, os.POSIX_FADV_WILLNEED)

    def payload(self, member: Member, row: int) -> memoryview:
        """A member's content."""
        size = member.size.item(row)
        extent = bytearray(tar.BLOCK + tar.padded(size))
        self._fill((extent,), len(extent), member, row)
        return memoryview(extent)[tar.BLOCK : tar.BLOCK + size]

    def record(self, member: Member, row: int, vocabulary: int | None = None) -> Record:
        """A picture's record; ShardError unless it is sound and its tokens lie below `vocabulary`."""
        return decode_record(self.payload(member, row), member, row, vocabulary)

    def array(self, member: Member, row: int, out: Rows, number: int) -> None:
        """Read a member's numbers straight into row `number` of `out`.

        Without hashes the numbers themselves are all that can be checked: each must be finite.
        """
        size = member.size.item(row)
        header = size - out.nbytes
        if not 0 < header <= NPY_HEADER_LIMIT:
            raise _wrong_shape(member, row, f"{size} bytes", out)
        head, padding = bytearray(tar.BLOCK + header), bytearray(-size % tar.BLOCK)
        numbers = out.bytes[number * out.nbytes : (number + 1) * out.nbytes]
        self._fill((head, numbers, padding), tar.BLOCK + tar.padded(size), member, row)
        if head[tar.BLOCK :] != out.known_header:
            _check_shape(head[tar.BLOCK :] + numbers, member, row, out)
            out.known_header = head[tar.BLOCK :]
        if not member.index.hashed and not np.isfinite(out.array[number]).all():
            raise ShardError(member.where(row), "holds numbers that are not finite")

    def _fill(self, parts: tuple[bytearray | memoryview, ...], size: int, member: Member, row: int) -> None:
        """Read an extent of `size` bytes into `parts` and check its hash, where there is one."""
        tar_file, offset = self._tars.open(member.path), member.offset.item(row)
        started = time.perf_counter()
        try:
            found = os.preadv(tar_file.descriptor, parts, offset)
            if found < size:
                found += _rest(tar_file.descriptor, parts, offset, found)
        except OSError as error:
            raise unreadable(member.path, error, f" at byte {offset}") from None
        read = time.perf_counter()
        self.disk += read - started
        if found != size:
            end = os.fstat(tar_file.descriptor).st_size
            raise ShardError(
                member.path, f"is cut at byte {end}", fix=f"dvc pull {member.path}, or rebuild it"
            )
        if member.index.hashed:
            sound = _hash(parts) == member.hash.item(row)
            self.check += time.perf_counter() - read
            if not sound:
                raise _damaged(member, row)


def _hash(parts: Sequence[bytearray | memoryview]) -> int:
    """xxh3 of these bytes after each other."""
    digest = xxhash.xxh3_64(parts[0])
    for part in parts[1:]:
        digest.update(part)
    return digest.intdigest()


def _rest(descriptor: int, parts: Sequence[bytearray | memoryview], offset: int, done: int) -> int:
    """Go on with a read that gave `done` bytes, up to the file's end: a signal, or a network, can cut one."""
    begun = done
    while left := _behind(parts, done):
        count = os.preadv(descriptor, left, offset + done)
        if not count:
            break
        done += count
    return done - begun


def _behind(parts: Sequence[bytearray | memoryview], done: int) -> list[memoryview]:
    """These buffers without their first `done` bytes."""
    left = []
    for part in parts:
        left += [memoryview(part)[done:]] if done < len(part) else []
        done = max(0, done - len(part))
    return left


def decode_record(content: memoryview, member: Member, row: int, vocabulary: int | None) -> Record:
    """The record in a payload; ShardError unless it is sound and its tokens lie below `vocabulary`."""
    where = member.where(row)
    record = codec.decode_record(content, where)
    if wrong := problems(record, vocabulary):
        raise ShardError(where, "; ".join(wrong[:MAX_SAID]), fix="fetch or rebuild the shard")
    return record


def _check_shape(content: bytearray, member: Member, row: int, out: Rows) -> None:
    """ShardError unless an npy file holds a row of `out`."""
    found = codec.decode_array(content, member.where(row))
    if found.dtype != out.dtype or found.shape != out.shape:
        raise _wrong_shape(member, row, f"{found.dtype} {found.shape}", out)


def _damaged(member: Member, row: int) -> ShardError:
    name = f"{member.index.key(row)}.{member.suffix}"
    return ShardError(
        member.path,
        f"member {name} is damaged: its bytes do not have the hash in the index",
        fix="fetch or rebuild the shard",
    )


def _wrong_shape(member: Member, row: int, found: str, out: Rows) -> ShardError:
    expected = f"{out.dtype} {out.shape}"
    return ShardError(member.where(row), "is not of the column's shape", found=found, expected=expected)
