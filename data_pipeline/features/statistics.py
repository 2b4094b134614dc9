"""What a column's features are like, and what storing them costs: gathered shard by shard while the float32
values are at hand, merged into `statistics.json`.

N tokens of a picture, D channels. The errors are those of both stored forms, whichever the column has.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import xxhash
from msgspec import Struct
from numpy.typing import NDArray

from contract.quantise import dequantise, quantise

Values = NDArray[np.float64]
Tokens = NDArray[np.float32]
LARGEST = float(np.finfo(np.float16).max)
DIGITS = 6  # significant ones of a figure in the file


def as_float16(tokens_ND: Tokens) -> Tokens:
    """Through float16 and back; what is beyond it becomes its largest."""
    return tokens_ND.clip(-LARGEST, LARGEST).astype(np.float16).astype(np.float32)


def as_int8(tokens_ND: Tokens) -> Tokens:
    """Through int8 and back."""
    return dequantise(*quantise(tokens_ND))


FORMS: dict[str, Callable[[Tokens], Tokens]] = {"float16": as_float16, "int8": as_int8}


class ShardStatistics(Struct):
    """Of one tar. norms, errors: of tokens, as (sum, least, greatest); an error is |x - x'| / |x|.

    channels: float64 [3 + forms, D], least value, greatest value, sum of squares, and per form the sum of
    squared errors. hashes: uint64 per picture, of its tokens as stored.
    """

    tokens: int
    norms: tuple[float, float, float]
    errors: dict[str, tuple[float, float, float]]
    channels: bytes
    hashes: bytes

    @property
    def table(self) -> Values:
        """`channels` as an array."""
        return np.frombuffer(self.channels, np.float64).reshape(3 + len(FORMS), -1)


class Gathering:
    """Statistics in the making."""

    def __init__(self, width: int) -> None:
        self._tokens = 0
        self._norms = _Spread()
        self._errors = {form: _Spread() for form in FORMS}
        self._channels = np.zeros((3 + len(FORMS), width))
        self._channels[0], self._channels[1] = np.inf, -np.inf
        self._hashes: list[int] = []

    def add(self, tokens_ND: Tokens, stored: bytes) -> None:
        """One picture: its tokens as encoded, and the bytes they are stored as."""
        squares_ND = np.square(tokens_ND, dtype=np.float64)
        norms_N = np.sqrt(squares_ND.sum(1))
        least, greatest, squares = self._channels[:3]
        np.minimum(least, tokens_ND.min(0), out=least)
        np.maximum(greatest, tokens_ND.max(0), out=greatest)
        squares += squares_ND.sum(0)
        for (form, restored), channels in zip(FORMS.items(), self._channels[3:], strict=True):
            lost_ND = np.square(tokens_ND - restored(tokens_ND), dtype=np.float64)
            channels += lost_ND.sum(0)
            self._errors[form].add(_ratio(np.sqrt(lost_ND.sum(1)), norms_N))
        self._norms.add(norms_N)
        self._tokens += len(tokens_ND)
        self._hashes.append(xxhash.xxh3_64_intdigest(stored))

    def done(self) -> ShardStatistics:
        """What was gathered."""
        errors = {form: spread.facts() for form, spread in self._errors.items()}
        hashes = np.array(self._hashes, np.uint64).tobytes()
        return ShardStatistics(self._tokens, self._norms.facts(), errors, self._channels.tobytes(), hashes)


class _Spread:
    """Sum, least and greatest of numbers that come in parts."""

    def __init__(self) -> None:
        self._parts: list[tuple[float, float, float]] = []

    def add(self, values: Values) -> None:
        self._parts.append((float(values.sum()), float(values.min()), float(values.max())))

    def facts(self) -> tuple[float, float, float]:
        return _merged(self._parts)


def _merged(parts: Iterable[tuple[float, float, float]]) -> tuple[float, float, float]:
    sums, least, greatest = tuple(zip(*parts, strict=True)) or ((0.0,), (0.0,), (0.0,))
    return math.fsum(sums), min(least), max(greatest)


def summary(shards: Iterable[ShardStatistics], width: int) -> dict[str, Any]:
    """`statistics.json`.

    norm: of tokens. dead: channels that are the same in every token. duplicates: pictures whose tokens are,
    bit for bit, those of another one counted before. error: per stored form, of the tokens' relative errors
    mean and greatest; of the channels' (root of squared errors over squares) median, greatest, and which.
    """
    held = [shard for shard in shards if shard.tokens]
    tokens = sum(shard.tokens for shard in held)
    table = _channels(held, width)
    hashes = np.frombuffer(b"".join(shard.hashes for shard in held), np.uint64)
    total, least, greatest = _merged(shard.norms for shard in held)
    return {
        "pictures": len(hashes),
        "tokens": tokens,
        "norm": {"mean": _short(total / max(tokens, 1)), "min": _short(least), "max": _short(greatest)},
        "dead": np.flatnonzero(table[0] == table[1]).tolist(),
        "duplicates": len(hashes) - len(np.unique(hashes)),
        "error": {
            form: _error([shard.errors[form] for shard in held], tokens, np.sqrt(_ratio(lost, table[2])))
            for form, lost in zip(FORMS, table[3:], strict=True)
        },
    }


def _channels(shards: Iterable[ShardStatistics], width: int) -> Values:
    """Their tables as one; sums are exact, so that no order of the shards changes a bit."""
    tables = np.array([shard.table for shard in shards]).reshape(-1, 3 + len(FORMS), width)
    merged = np.zeros((3 + len(FORMS), width))
    merged[0] = tables[:, 0].min(0, initial=np.inf)
    merged[1] = tables[:, 1].max(0, initial=-np.inf)
    merged[2:] = [[math.fsum(sums) for sums in row] for row in tables[:, 2:].transpose(1, 2, 0)]
    return merged


def _error(parts: Iterable[tuple[float, float, float]], tokens: int, channels_D: Values) -> dict[str, Any]:
    total, _, greatest = _merged(parts)
    worst = int(channels_D.argmax())
    return {
        "token": {"mean": _short(total / max(tokens, 1)), "max": _short(greatest)},
        "channel": {
            "median": _short(float(np.median(channels_D))),
            "max": _short(float(channels_D[worst])),
            "worst": worst,
        },
    }


def _ratio(part: Values, whole: Values) -> Values:
    """part / whole, 0 where both are."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
