"""`<shard>.tar.idx`: where every member lies, the hash of its whole extent, and what a sample offers.

Layout, little-endian: a header of 40 bytes, the member suffixes (32 bytes each), then one row of fixed
width per sample. Fixed width makes it usable straight from a memory map, whatever its length.
"""

import hashlib
import re
import struct
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from contract import tar
from contract.errors import ShardError
from contract.files import write_atomic
from contract.record import Record, Text

MAGIC = b"FUSEIDX1"
HEADER = struct.Struct("<8sQIIQQ")  # magic, bytes of the tar, samples, members, xxh3 of the rest, 0
SUFFIX_BYTES = 32
KEY_BYTES = 64
KEY = re.compile(rb"[A-Za-z0-9_-]{1,%d}" % KEY_BYTES)
LETTERS = np.array([bool(KEY.fullmatch(bytes([letter]))) for letter in range(256)])
SUFFIX = re.compile(rb"[!-~]{1,%d}" % SUFFIX_BYTES)
MAX_MEMBERS = 64
ABSENT = 1  # flag: this encoder could not take the picture; its array has no tokens
COUNTED = ("vqa", "pairs", "region", "cir")  # texts of a record that each kind of task can use

Rows = NDArray[Any]


class Index:
    """What is known of one tar without reading its payloads.

    suffixes: the members of every sample, in order. rows: structured array, one row per sample, with
    `key`, `flags`, `texts` [4], `offset` [M], `size` [M], `hash` [M]. hashed: whether `hash` can be checked.
    names: the keys, where `rows` lacks them (`lean`).
    """

    def __init__(
        self,
        suffixes: Sequence[str],
        rows: Rows,
        tar_bytes: int,
        hashed: bool = True,
        names: Rows | None = None,
    ) -> None:
        self.suffixes, self.rows = tuple(suffixes), rows
        self.tar_bytes, self.hashed = tar_bytes, hashed
        self.names: Rows = rows["key"] if names is None else names
        self.sha256 = ""  # of the index file, where there was one

    def __len__(self) -> int:
        return len(self.rows)

    def keys(self) -> list[str]:
        """Keys in the order of the tar."""
        return [key.decode("ascii") for key in self.names.tolist()]

    def key(self, row: int) -> str:
        """The key of one row."""
        key: bytes = self.names[row]
        return key.decode("ascii")

    def lean(self, fields: Sequence[str], names: Rows | None = None) -> "Index":
        """Only these fields, in a third of the memory, for those who hold millions of rows.

        names: the keys, where another index holds the same; else a copy no wider than the longest.
        """
        kept = np.empty(len(self), [(name, *_least(self.rows[name])) for name in fields])
        for name in fields:
            kept[name] = self.rows[name]
        own = _trimmed(self.names) if names is None else names
        return Index(self.suffixes, kept, self.tar_bytes, self.hashed, own)

    def member(self, suffix: str, where: object) -> int:
        """Position of a member in each sample, or the error that lists what there is."""
        if not len(self):  # a scan of an empty shard finds no names
            return 0
        if suffix not in self.suffixes:
            raise ShardError(where, f"has no member .{suffix}", expected=f"one of {', '.join(self.suffixes)}")
        return self.suffixes.index(suffix)

    def save(self, path: Path) -> None:
        """Write beside, then rename."""
        body = b"".join(name.encode("ascii").ljust(SUFFIX_BYTES, b"\0") for name in self.suffixes)
        body += self.rows.tobytes()
        head = HEADER.pack(
            MAGIC, self.tar_bytes, len(self.rows), len(self.suffixes), xxhash.xxh3_64_intdigest(body), 0
        )
        write_atomic(path, head + body)


def row_type(members: int) -> np.dtype[Any]:
    """The structured type of an index row for samples of `members` members."""
    per_member = [("offset", "<u8", (members,)), ("size", "<u8", (members,)), ("hash", "<u8", (members,))]
    return np.dtype(
        [("key", f"S{KEY_BYTES}"), ("flags", "<u4"), ("texts", "<u2", (len(COUNTED),)), *per_member]
    )


def index_path(shard: Path) -> Path:
    """`gqa-000.tar` → `gqa-000.tar.idx`."""
    return shard.with_name(shard.name + ".idx")


def load(shard: Path) -> Index:
    """The index of a shard: its file, checked against the tar's size, or a scan where there is none."""
    path = index_path(shard)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return scan(shard)
    with tar.open_shard(shard) as file:
        size = file.seek(0, 2)
    known = parse(content, path, size)
    known.sha256 = hashlib.sha256(content).hexdigest()
    return known


def parse(content: bytes, path: Path, tar_bytes: int) -> Index:
    """An index from its bytes. ShardError if it is damaged, belongs to another tar or points outside it."""
    if len(content) < HEADER.size or not content.startswith(MAGIC):
        raise ShardError(
            path, "is not an index of format 1", found=content[:8], fix="delete it; it is rebuilt by a scan"
        )
    _, stated, samples, members, digest, _ = HEADER.unpack_from(content)
    body = content[HEADER.size :]
    names, row = members * SUFFIX_BYTES, row_type(members) if members < MAX_MEMBERS else None
    if row is None or len(body) != names + samples * row.itemsize or xxhash.xxh3_64_intdigest(body) != digest:
        raise ShardError(path, "is damaged", fix="fetch it again, or delete it: it is rebuilt by a scan")
    if stated != tar_bytes:
        raise ShardError(
            path.with_suffix(""),
            "is not the file that its index describes: cut, or replaced",
            found=f"{tar_bytes} bytes",
            expected=f"{stated} bytes",
            fix="fetch the shard and its index again, or rebuild them",
        )
    suffixes = [body[i : i + SUFFIX_BYTES].rstrip(b"\0") for i in range(0, names, SUFFIX_BYTES)]
    rows = np.frombuffer(body, row, offset=names)
    if not (all(map(SUFFIX.fullmatch, suffixes)) and _are_keys(rows["key"]) and _lie_inside(rows, tar_bytes)):
        raise ShardError(path, "describes no shard", fix="do not trust it; fetch the shard again")
    return Index([name.decode("ascii") for name in suffixes], rows, tar_bytes)


def _least(column: Rows) -> tuple[str, tuple[int, ...]]:
    """Type and shape for a column of a row: four bytes where its numbers need no eight."""
    small = column.dtype.itemsize == 8 and (not len(column) or int(column.max()) < 1 << 32)
    return "<u4" if small else column.dtype.str, column.shape[1:]


def _trimmed(keys: Rows) -> Rows:
    """The same keys, without the words of 8 bytes that are padding in all of them."""
    words_NW = np.ascontiguousarray(keys).view("<u8").reshape(len(keys), KEY_BYTES // 8)
    used = max(1, int(np.flatnonzero(np.bitwise_or.reduce(words_NW, axis=0)).max(initial=0)) + 1)
    return np.ascontiguousarray(words_NW[:, :used]).view(f"S{8 * used}").ravel()


def _are_keys(keys: Rows) -> bool:
    """Ascending, so unique, and of the letters that a key may hold."""
    if not len(keys):
        return True
    short = _trimmed(keys)
    letters_NK = short.view(np.uint8).reshape(len(short), -1)
    ends_NK = letters_NK == 0
    padded = bool((ends_NK[:, 1:] >= ends_NK[:, :-1]).all()) and not ends_NK[:, 0].any()
    return padded and bool((LETTERS[letters_NK] | ends_NK).all() and (short[1:] > short[:-1]).all())


def _lie_inside(rows: Rows, tar_bytes: int) -> bool:
    """Every member's extent lies inside the tar and behind the one before it."""
    starts, sizes = rows["offset"].ravel(), rows["size"].ravel()
    if (starts > tar_bytes).any() or (sizes > tar_bytes).any():  # so that the sum below cannot overflow
        return False
    ends = starts + tar.BLOCK + -(-sizes.astype(np.int64) // tar.BLOCK * tar.BLOCK).astype(np.uint64)
    return bool((ends <= tar_bytes).all() and (ends[:-1] <= starts[1:]).all())


def scan(shard: Path) -> Index:
    """Rebuild the index from the tar's headers. Payload bits are then unchecked, text counts unknown (0)."""
    with tar.open_shard(shard) as file:
        members = list(tar.scan(file, str(shard)))
        length = file.seek(0, 2)
    keys, suffixes, table = _group(members, str(shard))
    rows = np.zeros(len(keys), row_type(len(suffixes)))
    rows["key"] = [key.encode("ascii") for key in keys]
    rows["offset"] = np.array([m.offset for m in table], np.uint64).reshape(len(keys), len(suffixes))
    rows["size"] = np.array([m.size for m in table], np.uint64).reshape(len(keys), len(suffixes))
    return Index(suffixes, rows, length, hashed=False)


def _group(members: list[tar.Member], where: str) -> tuple[list[str], list[str], list[tar.Member]]:
    """Members → samples: adjacent, ascending keys, the same suffixes in each."""
    names = [tar.split_name(member.name) for member in members]
    suffixes = list(dict.fromkeys(suffix for _, suffix in names))
    width = len(suffixes)
    keys = [key for key, _ in names[::width]] if width else []
    for number, (key, suffix) in enumerate(names):
        if number // width >= len(keys) or (key, suffix) != (keys[number // width], suffixes[number % width]):
            raise ShardError(where, f"member {members[number].name} breaks the order key × {suffixes}")
    if len(names) % max(width, 1):
        raise ShardError(where, f"last sample {keys[-1]} lacks a member", expected=", ".join(suffixes))
    for before, key in pairwise(keys):
        if key <= before:
            raise ShardError(where, f"holds key {key} after {before}: keys must ascend")
    if any(len(key.encode()) > KEY_BYTES or not key.isascii() for key in keys):
        raise ShardError(where, f"holds a key over {KEY_BYTES} bytes or outside ASCII")
    return keys, suffixes, members


def count_texts(record: Record) -> tuple[int, int, int, int]:
    """How many texts of a record each of COUNTED can use."""
    texts = record.texts
    return (
        sum(map(is_vqa, texts)),
        sum(map(is_pair, texts)),
        sum(map(is_region, texts)),
        sum(map(is_cir, texts)),
    )


def is_vqa(text: Text) -> bool:
    """A question with an answer."""
    return text.role == "question" and text.answer is not None


def is_pair(text: Text) -> bool:
    """A text that is true of its picture and can be contrasted with it."""
    return text.role in ("statement", "caption")


def is_region(text: Text) -> bool:
    """A text with a region that it, or one of its spans, describes."""
    return bool(text.about) or any(text.span_regions)


def is_cir(text: Text) -> bool:
    """An edit whose target is known."""
    return text.role == "edit" and bool(text.target)
