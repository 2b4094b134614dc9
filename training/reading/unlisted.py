"""What a manifest would have said of shards that came without one: told by the user, or read from arrays."""

from collections.abc import Iterable
from math import isqrt
from pathlib import Path
from typing import Any, cast, get_args

import msgspec
import numpy as np

from contract import codec, index
from contract.column import Dtype
from contract.errors import ParamsError, ShardError, no_room
from contract.manifest import FeatureManifest, WeightsFacts
from training.reading.members import Member, Reader
from training.reading.tars import Tars

UNLISTED = "no manifest"  # the source of weights of which nobody said anything
MAX_ANSWERS = 1 << 26  # bytes of a file of answers
MAX_GRID, MAX_WIDTH = 256, 65536  # as in contract.manifest


def read_answers(path: Path) -> list[str]:
    """The answer vocabulary of a file: a JSON list if its name ends so, else one a line, in their order."""
    try:
        if path.stat().st_size > MAX_ANSWERS:
            raise ParamsError(path, "is too long for a list of answers", expected=f"{MAX_ANSWERS} bytes")
        content = path.read_bytes()
        listed = path.suffix == ".json"
        answers = msgspec.json.decode(content, type=list[str]) if listed else _lines(content)
    except OSError as error:
        mistaken = ParamsError(path, f"cannot be read: {error.strerror}", fix="name it by --answers")
        raise no_room(path, error) or mistaken from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        expected = "a JSON list of strings, or a text file with one answer a line"
        raise ParamsError(path, f"holds no answers: {error}", expected=expected) from None
    if answers in ([], [""]):
        raise ParamsError(path, "holds no answer", fix="one answer a line, or a JSON list of them")
    if len(set(answers)) < len(answers) or "" in answers:
        raise ParamsError(path, "holds an answer twice, or an empty one", fix="each answer once")
    return answers


def _lines(content: bytes) -> list[str]:
    """Ended by line feeds alone: an answer may hold what else Unicode calls a line's end."""
    return content.decode("utf-8-sig").replace("\r\n", "\n").removesuffix("\n").split("\n")


def describe_column(tars: Tars, paths: Iterable[Path], name: str) -> FeatureManifest:
    """A column's width, type and grid by its first array with tokens; the transform is assumed: squash."""
    path = None
    for path in paths:
        known = index.load(path)
        if not len(known):
            continue
        member = Member(path, known, f"{name}.npy")
        for row in range(len(known)):
            array = codec.decode_array(Reader(tars).payload(member, row), member.where(row))
            if array.size:
                return _described(name, array.dtype, array.shape, member.where(row))
    raise ShardError(path, f"no shard holds an array {name}.npy with tokens", fix="name another column")


def _described(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], where: str) -> FeatureManifest:
    if dtype.name not in get_args(Dtype):
        expected = " or ".join(get_args(Dtype))
        raise ShardError(where, "is of a type that no column has", found=dtype, expected=expected)
    if len(shape) != 2 or shape[1] > MAX_WIDTH or not (grid := _grid(shape[0])):
        raise ShardError(
            where,
            "is no square grid of tokens, with CLS or without",
            found=f"shape {shape}",
            expected="n² or n² + 1 tokens × width",
            fix="leave out registers and the like, or write a manifest.json that says grid and cls",
        )
    return FeatureManifest(
        format=1,
        encoder=name,
        architecture="unknown",
        model="unknown",
        weights=WeightsFacts(UNLISTED, ""),
        transform="squash",
        size=0,
        grid=grid,
        cls=shape[0] > grid**2,
        width=shape[1],
        dtype=cast(Dtype, dtype.name),
        batch=0,
        threads=0,
        version=0,
        settings={},
        shards={},
    )


def _grid(tokens: int) -> int:
    """Side of the square of so many tokens, one of which may be CLS; 0 where they make none."""
    side = isqrt(tokens)
    return side if side**2 in (tokens, tokens - 1) and side <= MAX_GRID else 0
