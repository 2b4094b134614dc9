"""A pickle of lists, dicts, texts and numbers, as some official downloads are: nothing in it runs."""

import io
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from contract.errors import RawDataError

MAX_BYTES = 256 << 20  # the largest official file is a fraction of this
PLAIN = {
    *("PROTO", "FRAME", "STOP", "MARK"),
    *("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"),
    *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"),
    *("FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
}
NAMES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}
CLASSES = {"GLOBAL", "STACK_GLOBAL", "INST"}  # these ask find_class first, which says what was wanted


class NotPlainError(pickle.UnpicklingError):
    """The pickle holds more than data; its text names what."""


class _Opcodes(dict[int, Callable[[Any], None]]):
    def __missing__(self, code: int) -> NoReturn:
        raise NotPlainError(f"the opcode {NAMES[code]}" if code in NAMES else f"the byte {code}")


class PlainUnpickler(pickle._Unpickler):
    """Python's own unpickler without the opcodes that build anything else.

    The one in C cannot be cut down, and believes the pickle about the length of its memo.
    """

    dispatch = _Opcodes(
        (code, pickle._Unpickler.dispatch[code]) for code, name in NAMES.items() if name in PLAIN | CLASSES
    )

    def find_class(self, module: str, name: str) -> NoReturn:
        raise NotPlainError(f"the class {module}.{name}")


def load(path: Path) -> Any:
    """The object in the file, with Python 2's texts as latin-1. RawDataError unless it is plain data."""
    if path.stat().st_size > MAX_BYTES:
        found, most = f"{path.stat().st_size:,} bytes", f"at most {MAX_BYTES:,}"
        raise RawDataError(path, "is too large for a pickle", found=found, expected=most)
    try:
        return PlainUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except NotPlainError as error:
        expected, fix = "lists, dicts, texts, numbers", "do not load it by other means: it can run anything"
        raise RawDataError(path, "is no plain data", found=error, expected=expected, fix=fix) from None
    except Exception as error:  # a damaged pickle may raise anything
        found, fix = f"{type(error).__name__}: {error}", "download or copy it again"
        raise RawDataError(path, "is damaged, or is no pickle", found=found, fix=fix) from None
