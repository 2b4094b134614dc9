"""`<shard>.tar.idx`: where every member lies, the hash of its whole extent, and what a sample offers.

Layout, little-endian: a header of 40 bytes, the member suffixes (32 bytes each), then one row of fixed
width per sample. Fixed width makes it usable straight from a memory map, whatever its length.
"""

import hashlib
import re
import struct
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from contract import tar
from contract.errors import ShardError, unreadable
from contract.files import write_atomic
from contract.record import Record, Text

MAGIC = b"FUSEIDX1"
HEADER = struct.Struct("<8sQIIQQ")  # magic, bytes of the tar, samples, members, xxh3 of the rest, 0
SUFFIX_BYTES = 32
KEY_BYTES = 64
KEY = re.compile(rb"[A-Za-z0-9_-]{1,%d}" % KEY_BYTES)
LETTERS = bytes(letter for letter in range(256) if KEY.fullmatch(bytes([letter])))
SUFFIX = re.compile(rb"[!-~]{1,%d}" % SUFFIX_BYTES)
MAX_MEMBERS = 64
ABSENT = 1  # flag: this encoder could not take the picture; its array has no tokens
COUNTED = ("vqa", "pairs", "region", "cir")  # texts of a record that each kind of task can use

Rows = NDArray[Any]


class Index:
    """What is known of one tar without reading its payloads.

    suffixes: the members of every sample, in order. rows: structured array, one row per sample, with
    `key`, `flags`, `texts` [4], `offset` [M], `size` [M], `hash` [M]. hashed: whether `hash` can be checked.
    names: the keys, no wider than the longest needs; given where `rows` lacks them (`lean`).
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
        self.names = _trimmed(rows["key"]) if names is None else names
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

        names: the keys, where another index holds the same.
        """
        kept = np.empty(len(self), [(name, *_least(self.rows[name])) for name in fields])
        for name in fields:
            kept[name] = self.rows[name]
        return Index(self.suffixes, kept, self.tar_bytes, self.hashed, self.names if names is None else names)

    def member(self, suffix: str, where: object) -> int:
        """Position of a member in each sample, or the error that lists what there is."""
        if not len(self):  # a scan of an empty shard finds no names
            return 0
        if suffix not in self.suffixes:
            raise ShardError(where, f"has no member .{suffix}", expected=f"one of {', '.join(self.suffixes)}")
        return self.suffixes.index(suffix)

    def only(self, suffixes: Sequence[str], where: object) -> "Index":
        """The same samples with these members alone, in this order; ShardError where one is not there."""
        if self.suffixes == tuple(suffixes):
            return self
        kept = np.zeros(len(self), row_type(len(suffixes)))
        for name in ("key", "flags", "texts"):
            kept[name] = self.rows[name]
        for number, suffix in enumerate(suffixes):
            member = self.member(suffix, where)
            for name in ("offset", "size", "hash"):
                kept[name][:, number] = self.rows[name][:, member] if len(self) else 0
        chosen = Index(suffixes, kept, self.tar_bytes, self.hashed)
        chosen.sha256 = self.sha256
        return chosen

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
    except OSError as error:
        raise unreadable(path, error) from None
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
    body = memoryview(content)[HEADER.size :]
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
    suffixes = [bytes(body[i : i + SUFFIX_BYTES]).rstrip(b"\0") for i in range(0, names, SUFFIX_BYTES)]
    known = Index([name.decode("latin-1") for name in suffixes], np.frombuffer(body[names:], row), tar_bytes)
    if not (
        all(map(SUFFIX.fullmatch, suffixes)) and _are_keys(known.names) and _lie_inside(known.rows, tar_bytes)
    ):
        raise ShardError(path, "describes no shard", fix="do not trust it; fetch the shard again")
    return known


def _least(column: Rows) -> tuple[str, tuple[int, ...]]:
    """Type and shape for a column of a row: four bytes where its numbers need no eight."""
    small = column.dtype.itemsize == 8 and (not len(column) or int(column.max()) < 1 << 32)
    return "<u4" if small else column.dtype.str, column.shape[1:]


def _trimmed(keys: Rows) -> Rows:
    """The same keys, without the words of 8 bytes that are padding in all of them."""
    words_NW = keys[:, None].view("<u8")
    used = next((n for n in range(words_NW.shape[1], 1, -1) if words_NW[:, n - 1].any()), 1)
    return np.ascontiguousarray(words_NW[:, :used]).view(f"S{8 * used}")[:, 0]


def _are_keys(keys: Rows) -> bool:
    """Ascending, so unique, and of the letters that a key may hold."""
    if keys.tobytes().translate(None, LETTERS + b"\0"):
        return False
    ends_NK = keys[:, None].view(np.uint8) == 0
    padded = bool((ends_NK[:, 1:] >= ends_NK[:, :-1]).all()) and not ends_NK[:, 0].any()
    return padded and _ascend(keys[:, None].view(">u8"))


def _ascend(numbers_NW: Rows) -> bool:
    """Whether each row comes after the one before it, its first number counting most."""
    after, equal = np.False_, np.True_
    for before, now in zip(numbers_NW[:-1].T, numbers_NW[1:].T, strict=True):
        after = after | (equal & (now > before))
        equal = equal & (now == before)
    return bool(np.all(after)) or len(numbers_NW) < 2


def _lie_inside(rows: Rows, tar_bytes: int) -> bool:
    """Every member's extent lies inside the tar and behind the one before it."""
    starts, sizes = rows["offset"].ravel(), rows["size"].ravel()
    if (starts > tar_bytes).any() or (sizes > tar_bytes).any():  # so that the sum below cannot overflow
        return False
    ends = starts + np.uint64(tar.BLOCK) + (sizes + np.uint64(tar.BLOCK - 1) & ~np.uint64(tar.BLOCK - 1))
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
    """(keys, suffixes, members): adjacent and unique keys, each with the members of the first, in its order.

    Within a sample the tar may have them in any order, as other tools write them.
    """
    names = [tar.split_name(member.name) for member in members]
    suffixes = list(dict.fromkeys(suffix for _, suffix in takewhile(lambda n: n[0] == names[0][0], names)))
    width, place = len(suffixes), {suffix: number for number, suffix in enumerate(suffixes)}
    keys = [key for key, _ in names[::width]] if width else []
    table = dict[int, tar.Member]()
    for number, (key, suffix) in enumerate(names):
        at = number // width * width + place.get(suffix, width)
        if key != keys[number // width] or suffix not in place or at in table:
            raise ShardError(where, f"member {members[number].name} breaks the order key × {suffixes}")
        table[at] = members[number]
    if len(names) % max(width, 1):
        raise ShardError(where, f"last sample {keys[-1]} lacks a member", expected=", ".join(suffixes))
    _check_scanned(keys, suffixes, where)
    return keys, suffixes, [table[at] for at in range(len(members))]


def _check_scanned(keys: list[str], suffixes: list[str], where: str) -> None:
    if len(suffixes) >= MAX_MEMBERS:
        raise ShardError(where, f"has {len(suffixes)} members a sample", expected=f"under {MAX_MEMBERS}")
    if len(set(keys)) < len(keys):
        twice = next(key for key, count in Counter(keys).items() if count > 1)
        raise ShardError(where, f"holds key {twice} twice: keys must be unique")
    if any(len(key.encode()) > KEY_BYTES or not key.isascii() for key in keys):
        raise ShardError(where, f"holds a key over {KEY_BYTES} bytes or outside ASCII")


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


def is_edit(text: Text) -> bool:
    """An edit, its target known or withheld; not one of CIRR's notes, which name neither target nor set."""
    return text.role == "edit" and bool(text.target or text.members)
