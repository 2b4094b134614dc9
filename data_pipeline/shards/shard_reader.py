"""Read the members of a finished tar through its index, each whole extent checked."""

import os
from collections.abc import Iterator
from pathlib import Path

import xxhash

from contract import index, tar
from contract.errors import ShardError, unreadable
from contract.index import ABSENT, Index


def members(shard: Path, suffix: str) -> Iterator[tuple[str, bytes, bool]]:
    """(key, content, absent) of every sample, in the tar's order. ShardError on damage or no such member."""
    known = index.load(shard)
    if not len(known):
        return
    at = known.member(suffix, shard)
    with tar.open_shard(shard) as file:
        for row, key in enumerate(known.keys()):
            content = _read(file.fileno(), shard, known, row, at)
            yield key, content, bool(known.rows["flags"][row] & ABSENT)


def member(shard: Path, known: Index, key: str, suffix: str) -> bytes:
    """Content of one member. ShardError where the key is not in the shard."""
    keys = known.keys()
    if key not in keys:
        raise ShardError(shard, f"holds no key '{key}'")
    with tar.open_shard(shard) as file:
        return _read(file.fileno(), shard, known, keys.index(key), known.member(suffix, shard))


def _read(file: int, shard: Path, known: Index, row: int, at: int) -> bytes:
    entry = known.rows[row]
    size, offset = int(entry["size"][at]), int(entry["offset"][at])
    try:
        extent = os.pread(file, tar.BLOCK + tar.padded(size), offset)
    except OSError as error:
        raise unreadable(shard, error, f" at byte {offset}") from None
    if known.hashed and xxhash.xxh3_64_intdigest(extent) != int(entry["hash"][at]):
        name = f"{entry['key'].decode('ascii')}.{known.suffixes[at]}"
        raise ShardError(shard, f"member {name} is damaged", fix="fetch the shard again, or rebuild it")
    return extent[tar.BLOCK : tar.BLOCK + size]
