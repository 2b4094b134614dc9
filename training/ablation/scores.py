"""Scores of a row over its seeds, and what of them is told: mean, spread, distance to the first row."""

from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import msgspec
from msgspec import Struct

from contract.errors import MismatchError, ParamsError


class Scores(Struct, forbid_unknown_fields=True):
    """The file of a row. set: its settings over the project's, place → value; split: that it is scored on;
    scores: measure → one number a seed, in their order.
    """

    row: str
    set: dict[str, Any]
    split: str
    seeds: list[int]
    scores: dict[str, list[float]]


class Line(Struct, frozen=True):
    """A value of a factor under one measure. spread: sample standard deviation over the seeds, 0 of one.

    gain: mean over the first value's.
    """

    factor: str
    value: str
    row: str
    measure: str
    scores: list[float]
    mean: float
    spread: float
    gain: float


def read(path: Path) -> Scores:
    """The file of a row. ParamsError if it has not been trained, MismatchError if it is no such file."""
    again = f"python -m training.ablate {path.stem}"
    if not path.is_file():
        raise ParamsError(path, "no such file", fix=again)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Scores)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MismatchError(path, f"is not the result of a row: {error}", fix=again) from None


def find(result: Any, measure: str) -> float:
    """`vqa.accuracy` of a result file. ParamsError names what there is where a part is missing."""
    for at, part in enumerate(measure.split(".")):
        if not isinstance(result, dict) or part not in result:
            where = ".".join(measure.split(".")[:at]) or "the result"
            known = ", ".join(result) if isinstance(result, dict) else result
            raise ParamsError(f"measure {measure}", f"{where} has no '{part}'", found=known)
        result = result[part]
    if not isinstance(result, (int, float)):
        raise ParamsError(f"measure {measure}", "is no number", found=result)
    return float(result)


def lines(factor: str, rows: dict[str, Scores], measure: str) -> list[Line]:
    """rows: value → scores; the first is what the others are compared with."""
    first = fmean(next(iter(rows.values())).scores[measure])
    return [_line(factor, value, of, measure, first) for value, of in rows.items()]


def _line(factor: str, value: str, of: Scores, measure: str, first: float) -> Line:
    scores = of.scores[measure]
    mean = fmean(scores)
    spread = stdev(scores) if len(scores) > 1 else 0.0
    return Line(factor, value, of.row, measure, scores, mean, spread, mean - first)
