"""Large JSON files, one top-level member at a time.

The file is mapped, not loaded. One pass in C finds where each member of the outermost object or array
lies (about 1 GB/s; ~200 bytes of memory a member); each member is decoded when it is asked for, into a
typed struct. So a bad member costs that member, and only a broken file stops the reader.
"""

import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Raw

from contract.errors import RawDataError

T = TypeVar("T")
Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]  # what a table's column of integers holds
DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError)  # of one record
_object = msgspec.json.Decoder(dict[str, Raw])
_array = msgspec.json.Decoder(list[Raw])


def members_of_object(path: Path) -> Iterator[tuple[str, Raw]]:
    """(key, value) of a file that holds one object. RawDataError names the file and the byte."""
    yield from _split(path, _object, "a JSON object").items()


def members_of_array(path: Path) -> Iterator[tuple[str, Raw]]:
    """(index as text, value) of a file that holds one array. RawDataError names the file and the byte."""
    members = _split(path, _array, "a JSON array")
    for number, member in enumerate(members):
        yield str(number), member


def _split(path: Path, decoder: "msgspec.json.Decoder[T]", kind: str) -> T:
    content = _map(path)
    try:
        return decoder.decode(content)
    except msgspec.ValidationError as error:
        raise RawDataError(path, "has another form", found=str(error), expected=kind) from None
    except DECODE_ERRORS as error:
        raise _broken(path, error, len(content)) from None


def _map(path: Path) -> mmap.mmap:
    """The file's bytes, shared with the page cache; the members keep the map alive."""
    if path.stat().st_size == 0:
        raise RawDataError(path, "is empty", fix="download or copy it again")
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _broken(path: Path, error: Exception, size: int) -> RawDataError:
    """The error of a file that is cut off or is no JSON; its byte position is in the text."""
    found = re.search(r"\(byte (\d+)\)", str(error))
    where = int(found.group(1)) if found else size
    what = "is not JSON" if found else "ends in the middle"
    return RawDataError(f"{path}, byte {where:,}", what, found=str(error), fix="download or copy it again")


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
