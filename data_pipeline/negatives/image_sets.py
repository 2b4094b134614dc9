"""Negatives of an edit: the other pictures of its image set, which its author saw and did not mean."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from contract.record import Near
from data_pipeline.negatives.picture_column import Column, as_near

Edits = dict[str, tuple[str, Near]]  # text id → (key of its picture, members)


def members(edits: pl.DataFrame, column: Column, keys: Mapping[str, str]) -> Edits:
    """Of each edit the members of its set that are no target, most like the target first.

    edits: text, key, target, members. keys: picture → key. The score is the cosine to the hard target; where
    that is hidden, to the picture that the edit starts from; 0 without features.
    """
    row_of = {key: row for row, key in enumerate(column.keys)}
    found: Edits = {}
    for edit in edits.iter_rows(named=True):
        others = [keys[picture] for picture in edit["members"] if picture not in edit["target"]]
        if others:
            anchor = keys[edit["target"][0]] if edit["target"] else edit["key"]
            found[edit["text"]] = (edit["key"], _by_likeness(column, row_of, anchor, others))
    return found


def _by_likeness(column: Column, row_of: Mapping[str, int], anchor: str, others: list[str]) -> Near:
    vectors: Any = column.vectors[[row_of[key] for key in (anchor, *others)]].astype(np.float64)
    cosines = np.vecdot(vectors[1:], vectors[0])
    order = np.argsort(-cosines, kind="stable")
    return as_near([others[place] for place in order], [""] * len(others), cosines[order])
