"""Tokens as a column stores them: the arrays of a picture, one per member of the tar; or why it has none.

N tokens, D channels.
"""

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from contract.column import Dtype
from contract.quantise import quantise

NOT_FINITE, DAMAGED = "feature_not_finite", "picture_damaged"


class Absent(Struct):
    """A picture that has no features, and why."""

    key: str
    reason: str
    detail: str


def stored(key: str, tokens_ND: NDArray[np.float32], dtype: Dtype) -> list[NDArray[Any]] | Absent:
    """The arrays in the order of `contract.column.suffixes`."""
    if not np.isfinite(tokens_ND).all():
        return Absent(key, NOT_FINITE, f"{np.count_nonzero(~np.isfinite(tokens_ND))} values are not finite")
    if dtype == "int8":
        return list(quantise(tokens_ND))
    with np.errstate(over="ignore"):
        halves = tokens_ND.astype(np.float16)
    if not np.isfinite(halves).all():
        return Absent(key, NOT_FINITE, f"{np.abs(tokens_ND).max():.6g} is beyond float16")
    return [halves]


def nothing(width: int, dtype: Dtype) -> list[NDArray[Any]]:
    """The arrays of a picture without features: no tokens."""
    if dtype == "int8":
        return [np.zeros((0, width), np.int8), np.zeros(0, np.float32)]
    return [np.zeros((0, width), np.float16)]
