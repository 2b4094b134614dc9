"""Members of a shard ↔ objects: JSON for records and negatives, npy for features. Never a pickle."""

import io
import math
import re
import struct
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from contract.errors import ShardError
from contract.record import Negatives, Record

T = TypeVar("T")
NPY_1_0 = b"\x93NUMPY\x01\x00"
NPY_HEADER = re.compile(
    rb"\{'descr': '(<f2|<f4|\|i1)', 'fortran_order': False,"
    rb" 'shape': \(((?:\d{1,10}, ?){0,8}\d{0,10})\), \} *\n"  # one way to read a shape: no backtracking
)
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # what msgspec raises of bad bytes
DTYPES = ("float16", "float32", "int8")  # all that a feature column may hold

_encoder = msgspec.json.Encoder()
_record = msgspec.json.Decoder(Record)
_negatives = msgspec.json.Decoder(Negatives)


def encode(value: Record | Negatives) -> bytes:
    """JSON with fields in the schema's order."""
    return _encoder.encode(value)


def decode_record(content: bytes | memoryview, where: str) -> Record:
    """A record, or a ShardError that names the field."""
    return _decode(_record, content, where)


def decode_negatives(content: bytes | memoryview, where: str) -> Negatives:
    """A negatives member, or a ShardError that names the field."""
    return _decode(_negatives, content, where)


def _decode(decoder: "msgspec.json.Decoder[T]", content: bytes | memoryview, where: str) -> T:
    try:
        return decoder.decode(content)
    except UNDECODABLE as error:
        raise ShardError(where, f"does not follow the schema: {error}", fix="rebuild the shard") from None


def encode_array(array: NDArray[Any]) -> bytes:
    """An npy file, version 1.0, C order."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def decode_array(content: bytes | bytearray | memoryview, where: str) -> NDArray[Any]:
    """The array of an npy file, as a view of `content`. ShardError if it is anything else."""
    view = memoryview(content)
    dtype, shape = array_header(view, where)
    start = _header_length(view)
    size = dtype.itemsize * math.prod(shape)
    if len(view) - start != size:
        raise ShardError(
            where, "is cut or too long", found=f"{len(view) - start} bytes", expected=f"{size} bytes"
        )
    return np.frombuffer(view[start:], dtype).reshape(shape)


def array_header(view: memoryview, where: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """(dtype, shape) of an npy file from its first bytes. ShardError if a feature column may not hold it."""
    if len(view) < 10 or bytes(view[:8]) != NPY_1_0:
        raise ShardError(where, "is not an npy file of version 1.0", found=bytes(view[:8]))
    try:
        return _npy_header(bytes(view[: _header_length(view)]))
    except ValueError as error:
        raise ShardError(where, f"has an npy header that cannot be used: {error}") from None


def _header_length(view: memoryview) -> int:
    return 10 + int(struct.unpack("<H", view[8:10])[0])


@lru_cache(maxsize=256)  # a column holds few shapes, so a header is parsed once
def _npy_header(header: bytes) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """By a pattern: numpy's own parser evaluates the text, and raises what it likes on a damaged one."""
    match = NPY_HEADER.fullmatch(header[10:])
    if match is None:
        raise ValueError(f"{header[10:100]!r}; expected little-endian, C order and one of {DTYPES}")
    descr, shape = match.groups()
    return np.dtype(descr.decode()), tuple(int(side) for side in shape.split(b",") if side.strip())
