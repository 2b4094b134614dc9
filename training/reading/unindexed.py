"""What an index would have said of a shard that came without one, read from its payloads.

A scan of the headers finds the members; how many texts a record has and which arrays are empty it cannot see.
What cannot be read is refused; or, where pictures may be skipped, left to who takes it: there it is counted.
"""

import hashlib
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import numpy as np

from contract import codec
from contract.errors import ShardError
from contract.index import ABSENT, Index, count_texts
from contract.manifest import FeatureManifest
from training.reading.members import NPY_HEADER_LIMIT, Member, Reader
from training.reading.tars import Tars

MAY_HAVE = 1  # texts of each kind, in a record that cannot be read


def fingerprint(index: Index) -> str:
    """Of a tar by its index, so of every byte; without one, of its length, what its headers say, and what was
    filled in: a record that can be read again may have other texts than it was taken to have.
    """
    if index.hashed:
        return index.sha256
    digest = hashlib.sha256(f"{index.tar_bytes} {' '.join(index.suffixes)}".encode())
    for name in ("key", "offset", "size", "texts", "flags"):
        digest.update(np.ascontiguousarray(index.rows[name]).data)
    return digest.hexdigest()


def complete_records(tars: Tars, path: Path, index: Index, skips: bool) -> None:
    """Fill `texts`: every record is decoded once. skips: one that cannot be read is no error yet."""
    if not len(index):
        return
    member = Member(path, index, "json")
    index.rows["texts"] = MAY_HAVE
    with Reader(tars) as reader:
        for row in range(len(index)):
            with _unread(skips):
                index.rows["texts"][row] = count_texts(reader.record(member, row))


def complete_column(tars: Tars, path: Path, index: Index, known: FeatureManifest, skips: bool) -> None:
    """Flag the pictures whose array has no tokens; only members as short as a header are opened.

    skips: one that cannot be read is no error yet, and has a flag like one with tokens.
    """
    if not len(index):
        return
    member = Member(path, index, known.suffixes[0])
    with Reader(tars) as reader:
        for row in (member.size <= NPY_HEADER_LIMIT).nonzero()[0].tolist():
            with _unread(skips):
                array = codec.decode_array(reader.payload(member, row), member.where(row))
                index.rows["flags"][row] = ABSENT * (not len(array))


def _unread(skips: bool) -> AbstractContextManager[None]:
    return suppress(ShardError) if skips else nullcontext()
