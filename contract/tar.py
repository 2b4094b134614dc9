"""Uncompressed POSIX tar, written reproducibly and read without trust.

A member is one header block, its payload and padding to the next block: that whole is its extent.
A shard ends with two zero blocks, padded to 10,240 bytes, as every tar does.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from contract.errors import ShardError, unreadable

BLOCK = 512
RECORD = 20 * BLOCK
NAME_BYTES = 100
MAX_MEMBER = 0o77777777777  # bytes, all that a header can say; one that claims more is damaged or hostile
REGULAR = (b"0", b"\0")
PAX, GNU_NAME = (b"x", b"g"), b"L"  # extension headers, written by other tools
MAX_EXTENSION = 1 << 20  # bytes
# Where an extension says another name or size than the header. A value may hold a line that looks the same.
OVERRIDE = re.compile(rb"(?:\A|\n)\d+ (path|size|GNU\.sparse\.\w+)=")
POSIX = b"ustar\0"  # in a header: its name may begin in a second field; GNU tar keeps other things there

# What is the same in every header that we write, in the order of the fields.
OWNER = b"0000644\0" + 2 * b"0000000\0"  # mode, user, group
TIME = b"\0" + b"00000000000\0"  # the end of the size, then the time
REST = b"\0 " + b"0".ljust(101, b"\0") + b"ustar\x0000".ljust(72, b"\0") + 2 * b"0000000\0" + bytes(167)
CONSTANT_SUM = sum(OWNER + TIME + REST[2:]) + 8 * 32  # a checksum counts its own field as blanks


class Member(Struct, frozen=True):
    """Where a member lies: `offset` of its header, `size` of its payload, in bytes."""

    name: str
    offset: int
    size: int

    @property
    def payload(self) -> int:
        """Offset of the first byte of content."""
        return self.offset + BLOCK

    @property
    def extent(self) -> int:
        """Bytes of header, payload and padding."""
        return BLOCK + padded(self.size)


def padded(size: int) -> int:
    """Size rounded up to whole blocks."""
    return -(-size // BLOCK) * BLOCK


def header(name: str, size: int) -> bytes:
    """A ustar header: regular file, mode 644, owner 0, time 0. ValueError where name or size does not fit."""
    raw = name.encode("ascii")
    if len(raw) > NAME_BYTES:
        raise ValueError(f"member name over {NAME_BYTES} bytes: {name}")
    if size > MAX_MEMBER:
        raise ValueError(f"member {name} of {size} bytes: a tar takes {MAX_MEMBER}")
    length = b"%011o" % size
    checksum = b"%06o" % (CONSTANT_SUM + sum(raw) + sum(length))
    return b"".join((raw.ljust(NAME_BYTES, b"\0"), OWNER, length, TIME, checksum, REST))


def extent(name: str, content: bytes) -> bytes:
    """A member as it lies in the tar: header, payload, padding."""
    return b"".join((header(name, len(content)), content, bytes(-len(content) % BLOCK)))


def trailer(length: int) -> bytes:
    """What follows the last member of a tar that is `length` bytes long so far."""
    end = length + 2 * BLOCK
    return bytes(2 * BLOCK + -end % RECORD)


def scan(file: BinaryIO, where: str) -> Iterator[Member]:
    """The members of a tar in order, headers read and payloads skipped.

    ShardError on a cut, a bad checksum, a link, an unsafe name or an impossible size.
    """
    length = os.fstat(file.fileno()).st_size
    offset = 0
    if not length:
        raise ShardError(where, "is an empty file", fix="rebuild or fetch the shard again")
    while True:
        block = _read(file, BLOCK, offset, where)
        if len(block) < BLOCK:
            raise ShardError(
                where, f"is cut at byte {offset}: no end-of-archive block", found=f"{length} bytes"
            )
        if block == bytes(BLOCK):
            return _check_end(file, offset, where)
        member, kind = _parse(block, offset, where)
        if member.offset + member.extent > length:
            raise ShardError(where, f"is cut inside {member.name}", found=f"{length} bytes")
        offset += member.extent
        if kind in REGULAR:
            yield member
        else:
            _check_extension(file, member, kind, where)


def _read(file: BinaryIO, size: int, offset: int, where: str) -> bytes:
    try:
        return os.pread(file.fileno(), size, offset)
    except OSError as error:
        raise unreadable(where, error, f" at byte {offset}") from None


def _check_extension(file: BinaryIO, member: Member, kind: bytes, where: str) -> None:
    """An extension header may tell of times and owners; names and sizes must stand in plain ones."""
    if member.size > MAX_EXTENSION:
        raise ShardError(where, f"has an extension header of {member.size} bytes at byte {member.offset}")
    override = OVERRIDE.search(_read(file, member.size, member.payload, where))
    if override or kind == GNU_NAME:
        field = override[1].decode() if override and kind != GNU_NAME else "path"
        raise ShardError(
            where,
            f"the {field} of a member stands in an extension header at byte {member.offset}",
            expected="plain ustar headers",
            fix="write it again with shorter names (tar --format=ustar)",
        )


def _check_end(file: BinaryIO, offset: int, where: str) -> None:
    """After the end-of-archive block only zeros may follow, and no more than fill a record.

    Anything else was lost, not absent.
    """
    length = os.fstat(file.fileno()).st_size
    if length - offset > 2 * BLOCK + RECORD:
        raise ShardError(
            where,
            f"holds {length - offset} bytes behind the end-of-archive block at {offset}: members were lost",
            expected=f"at most {2 * BLOCK + RECORD} bytes",
            fix="fetch the shard again, or rebuild it",
        )
    while block := _read(file, 1 << 20, offset, where):
        if block.count(0) != len(block):
            raise ShardError(where, f"holds data behind the end-of-archive block at byte {offset}")
        offset += len(block)


def _parse(block: bytes, offset: int, where: str) -> tuple[Member, bytes]:
    stored = _octal(block[148:156], offset, where)
    if stored != _checksum(block):
        raise ShardError(
            where, f"has a damaged header at byte {offset}", fix="fetch the shard again, or rebuild it"
        )
    kind = block[156:157]
    name = _name(block)
    if kind not in (*REGULAR, *PAX, GNU_NAME):
        raise ShardError(where, f"member {name!r} is not a regular file", found=f"type {kind!r}")
    if kind in REGULAR:
        check_name(name, where)
    size = _octal(block[124:136], offset, where)
    if size > MAX_MEMBER:
        raise ShardError(where, f"member {name!r} claims {size} bytes", expected=f"at most {MAX_MEMBER}")
    return Member(name, offset, size), kind


def _name(block: bytes) -> str:
    """A name of over 100 bytes is split at a slash, and its beginning stands near the end of the header."""
    fields = [block[:NAME_BYTES]]
    if block[257:263] == POSIX:
        fields.insert(0, block[345:500])
    names = [field.split(b"\0")[0].decode("utf8", "replace") for field in fields]
    return "/".join(filter(None, names))


def check_name(name: str, where: str) -> None:
    """A member's name must stay inside the folder that it may be unpacked into."""
    parts = name.split("/")
    if not name or name.startswith("/") or ".." in parts or not name.isprintable():
        raise ShardError(where, f"holds a member with an unsafe name: {name!r}")


def _checksum(block: bytes | bytearray) -> int:
    return sum(block[:148]) + 8 * 32 + sum(block[156:])


def _octal(field: bytes, offset: int, where: str) -> int:
    text = field.split(b"\0")[0].strip()
    if text.strip(b"01234567"):
        raise ShardError(where, f"has a damaged header at byte {offset}", found=f"number {field!r}")
    return int(text or b"0", 8)


def split_name(name: str) -> tuple[str, str]:
    """`key.vit.npy` → (`key`, `vit.npy`), as webdataset groups members into samples."""
    folder, _, base = name.rpartition("/")
    key, _, suffix = base.partition(".")
    return (f"{folder}/{key}" if folder else key), suffix


def open_shard(path: Path) -> BinaryIO:
    """Open for reading, or a ShardError that says what is in the way."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise ShardError(
            path, "no such shard", fix=f"fetch it (dvc pull {path}) or build it (dvc repro)"
        ) from None
    except IsADirectoryError:
        raise ShardError(path, "is a folder", fix="name a .tar in it") from None
    except OSError as error:
        raise unreadable(path, error) from None
