"""Rows of the clean tables → records, the content of the `data/` shards.

A row is a dict with the columns of its table (data_pipeline/tables.py). Ids become positions here: a
region its row in the record, a named picture its key.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from contract.boxes import Boxes
from contract.record import NegText, Record, Regions, Text

Row = Mapping[str, Any]
ROLES = ("question", "statement", "caption", "phrase", "edit")  # their order in a record
DECIMALS = 6
DIGITS = re.compile(r"(\d+)")


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sort key that counts: r2 before r10. Text and numbers alternate; a number may have any length."""
    parts = DIGITS.split(name)
    parts[1::2] = [digits.lstrip("0") for digits in parts[1::2]]
    return [(len(part) if number % 2 else 0, part) for number, part in enumerate(parts)], name


def rounded(boxes_R4: Boxes) -> Boxes:
    """Valid xyxy boxes to six decimals, still valid: an edge never meets the one across."""
    boxes = np.round(boxes_R4, DECIMALS)
    step = 10.0**-DECIMALS
    for low, high in ((0, 2), (1, 3)):
        flat = boxes[:, low] >= boxes[:, high]
        boxes[flat, low] = np.minimum(boxes[flat, low], 1 - step)
        boxes[flat, high] = boxes[flat, low] + step
    return np.round(boxes, DECIMALS)


def with_rounded_boxes(regions: pl.DataFrame) -> pl.DataFrame:
    """The regions table with x0, y0, x1, y1 replaced by one column `box`."""
    edges = ["x0", "y0", "x1", "y1"]
    boxes = rounded(regions.select(edges).to_numpy())
    return regions.drop(edges).with_columns(pl.Series("box", boxes, pl.Array(pl.Float64, 4)))


def rows_by(table: pl.DataFrame, column: str) -> dict[str, list[dict[str, Any]]]:
    """The table's rows, grouped by a column of ids."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in table.iter_rows(named=True):
        groups[row[column]].append(row)
    return groups


def build(
    picture: Row, regions: Sequence[Row], texts: Sequence[Row], entities: Mapping[str, Sequence[Row]]
) -> Record:
    """The record of one picture.

    picture: its row of the catalogue. regions: its regions, with `box`. texts: its texts, with `tokens`,
    `target` and `members` as keys. entities: by id of text, with `token_start`, `token_end`.
    """
    regions = sorted(regions, key=lambda row: natural(row["region"]))
    position = {row["region"]: number for number, row in enumerate(regions)}
    ordered = sorted(texts, key=lambda row: (ROLES.index(row["role"]), row["text"]))
    return Record(
        v=1,
        id=picture["picture"],
        width=picture["width"],
        height=picture["height"],
        sha256=picture["sha256"],
        group=picture["group"],
        regions=_regions(regions),
        texts=[_text(row, entities.get(row["text"], ()), position) for row in ordered],
    )


def _regions(rows: Sequence[Row]) -> Regions:
    return Regions(
        id=[row["region"] for row in rows],
        box=[tuple(row["box"]) for row in rows],
        name=[row["name"] or "" for row in rows],
        crowd=[number for number, row in enumerate(rows) if row["crowd"]],
    )


def _text(row: Row, entities: Iterable[Row], position: Mapping[str, int]) -> Text:
    spans = sorted(entities, key=lambda span: (span["start"], span["end"], span["regions"]))
    matched = any(span["source"] == "matched" for span in spans)
    return Text(
        id=row["text"],
        role=row["role"],
        text=row["content"],
        tokens=row["tokens"],
        span_chars=[(span["start"], span["end"]) for span in spans],
        span_tokens=[(span["token_start"], span["token_end"]) for span in spans],
        span_regions=[_positions(span["regions"], position) for span in spans],
        span_source="matched" if matched else "annotated",
        about=_positions(row["about"], position),
        answer=row["answer"],
        type=row["type"] or "",
        target=row["target"] or [],
        members=row["members"] or [],
        negatives=[NegText(**negative) for negative in row["negatives"] or ()],
    )


def _positions(names: Iterable[str] | None, position: Mapping[str, int]) -> list[int]:
    return sorted(position[name] for name in names or ())
