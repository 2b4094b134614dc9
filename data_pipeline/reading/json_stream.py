"""Large JSON files, one top-level member at a time.

The file is mapped, not loaded. One pass in C finds where each member of the outermost object or array
lies (about 1 GB/s; ~200 bytes of memory a member); each member is decoded when it is asked for, into a
typed struct. So a bad member costs that member, and only a broken file stops the reader.

JSON allows a key twice in one object, and most parsers keep the last in silence. Of the outermost object both
members come, or an error; inside a record only where the reader's struct says `dict[Key, …]`.
"""

import mmap
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import msgspec
from msgspec import Meta, Raw

from contract.errors import RawDataError

T = TypeVar("T")
Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]  # what a table's column of integers holds
DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # of one record
BOM = b"\xef\xbb\xbf"
NO_NUMBERS = (b"NaN", b"Infinity")  # Python's json writes them, JSON does not know them
# A pair of escaped surrogates, one alone (six bytes), or any other escape.
ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2}|u[dD][89a-fA-F][\da-fA-F]{2}|.)"
)
LONE = 6


class Key:
    """A key of a JSON object, equal to no other: `dict[Key, …]` holds both members of a repeated key."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def keyed(kind: type[T]) -> "msgspec.json.Decoder[T]":
    """A decoder of a type with `Key`s in it."""
    return msgspec.json.Decoder(kind, dec_hook=_key)


def _key(kind: type, text: object) -> Key:
    return Key(cast(str, text))


_object = keyed(dict[Key, Raw])
_array = msgspec.json.Decoder(list[Raw])


def members_of_object(path: Path) -> Iterator[tuple[str, Raw]]:
    """(key, value) of a file that holds one object, repeated keys too. RawDataError names file and byte."""
    for key, value in _split(path, _object, "a JSON object").items():
        yield key.text, value


def members_of_array(path: Path) -> Iterator[tuple[str, Raw]]:
    """(index as text, value) of a file that holds one array. RawDataError names the file and the byte."""
    members = _split(path, _array, "a JSON array")
    for number, member in enumerate(members):
        yield str(number), member


def object_of_arrays(path: Path, form: "msgspec.json.Decoder[T]") -> T:
    """A file that holds one object with long arrays inside, as a struct of `list[Raw]`.

    RawDataError names the file, and the byte or a key that the object holds twice.
    """
    kind = "a JSON object of arrays"
    keys = Counter(key.text for key in _split(path, _object, kind))
    if twice := [key for key, times in keys.items() if times > 1]:
        fix = "a reader sees one of the arrays: make them one"
        raise RawDataError(path, "holds a key twice", found=", ".join(twice), fix=fix)
    return _split(path, form, kind)


def _split(path: Path, decoder: "msgspec.json.Decoder[T]", kind: str) -> T:
    content = _map(path)
    try:
        return _decode(decoder, content)
    except msgspec.ValidationError as error:
        raise RawDataError(path, "has another form", found=str(error), expected=kind) from None
    except RecursionError:
        raise RawDataError(path, "is nested too deeply", expected="some hundred levels at most") from None
    except UnicodeDecodeError as error:
        raise RawDataError(path, "holds a key that is not UTF-8", found=str(error)) from None
    except msgspec.DecodeError as error:
        raise _broken(path, error, content) from None


def _map(path: Path) -> memoryview:
    """The file's bytes behind a byte order mark, shared with the page cache; members keep the map alive."""
    if path.stat().st_size == 0:
        raise RawDataError(path, "is empty", fix="download or copy it again")
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return memoryview(content)[len(BOM) if content[: len(BOM)] == BOM else 0 :]


def _decode(decoder: "msgspec.json.Decoder[T]", content: memoryview) -> T:
    """The members, also where half a surrogate pair in one of them makes the decoder refuse them all."""
    try:
        return decoder.decode(content)
    except msgspec.DecodeError:
        spoiled = ESCAPE.sub(_spoil, content)
        if spoiled == content:
            raise
        return decoder.decode(spoiled)


def _spoil(escape: re.Match[bytes]) -> bytes:
    """Half a pair begins with a byte that is no UTF-8: the file can be split, that text alone fails."""
    return b"\xff" + escape[0][1:] if len(escape[0]) == LONE else escape[0]


def _broken(path: Path, error: Exception, content: memoryview) -> RawDataError:
    """The error of a file that is cut off or is no JSON; its byte position is in the text."""
    found = re.search(r"\(byte (\d+)\)", str(error))
    where = int(found.group(1)) if found else len(content)
    what = "is not JSON" if found else "ends in the middle"
    number = bytes(content[where : where + 8]).startswith(NO_NUMBERS)
    fix = "JSON has no NaN and no Infinity: write null" if number else "download or copy it again"
    where += path.stat().st_size - len(content)
    return RawDataError(f"{path}, byte {where:,}", what, found=str(error), fix=fix)


def problem(error: Exception) -> str:
    """What a decoder says about one record, in one line."""
    return " ".join(str(error).split())


def decode_each(raws: list[Raw], decoder: "msgspec.json.Decoder[Any]") -> Iterator[tuple[int, Any, str]]:
    """(index, value or None, problem) of every element: one bad element does not take the others along."""
    for number, raw in enumerate(raws):
        try:
            yield number, decoder.decode(raw), ""
        except DECODE_ERRORS as error:
            yield number, None, problem(error)


def id_of(raw: Raw, *keys: str) -> str:
    """The id of a record that is otherwise unusable: the first of `keys` that it holds; "" if none."""
    try:
        found = msgspec.json.decode(raw)
    except DECODE_ERRORS:
        return ""
    held = [found[key] for key in keys if key in found] if isinstance(found, dict) else []
    return str(held[0]) if held else ""
