"""What is left of a picture in which an object is hidden, and whether it still tells the object's name.

The frozen encoder has mixed every token with the others before one was hidden.

Legend: R boxes, G cells a side, N tokens, D width.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from contract.geometry import affine, to_input
from contract.manifest import FeatureManifest
from contract.record import Record
from training.batching.collate import called_alike
from training.batching.lattice import touching
from training.probing.box_vectors import Tokens, grid_of
from training.probing.probe_heads import Example

TASK = "hidden"
LEFT, CLS = "left", "cls"
TELLING = 2.0  # times chance: above it the name is told
Cells = NDArray[np.bool_]


def variants(column: FeatureManifest) -> list[str]:
    """What is asked: the cells that are left, and the frozen CLS, where there is one."""
    return [LEFT, *[CLS] * column.cls]


def examples(tokens_ND: Tokens, record: Record, column: FeatureManifest) -> dict[str, list[Example]]:
    """For each named box what is left once all boxes of its name are hidden, if anything is."""
    cells, names = grid_of(tokens_ND, column), record.regions.name
    boxes_R4 = np.array(record.regions.box, np.float64).reshape(-1, 4)
    inside, seen = to_input(boxes_R4, affine(column.transform, record.width, record.height))
    touched = touching(torch.from_numpy(inside), column.grid).numpy().reshape(-1, column.grid, column.grid)
    found: dict[str, list[Example]] = {variant: [] for variant in variants(column)}
    for row in np.flatnonzero(seen):
        hidden = np.asarray(touched[called_alike({int(row)}, names)].any(0))
        if names[row] and not hidden.all():
            found[LEFT].append(Example(left(cells, hidden), [], names[row]))
            if column.cls:
                found[CLS].append(Example(tokens_ND[0], [], names[row]))
    return found


def left(cells_GGD: Tokens, hidden_GG: Cells) -> Tokens:
    """[2D] the mean of the cells that are not hidden, and of those of them that lie next to a hidden one."""
    padded = np.pad(hidden_GG, 1)
    side = len(hidden_GG)
    near = np.any([padded[y : y + side, x : x + side] for y in range(3) for x in range(3)], axis=0)
    beside = near & ~hidden_GG
    parts = [cells_GGD[~hidden_GG], cells_GGD[beside if beside.any() else ~hidden_GG]]
    return np.concatenate([part.mean(0) for part in parts]).astype(np.float32)


class Row(Protocol):
    """A line of the probe's result."""

    @property
    def column(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def variant(self) -> str: ...
    @property
    def accuracy(self) -> float: ...
    @property
    def chance(self) -> float: ...


def warnings(rows: Sequence[Row]) -> list[str]:
    """A line for each column whose cells tell the name of what is hidden."""
    return [
        f"warning: {row.column}: what is left of a picture tells the name of what is hidden in "
        f"{row.accuracy:.0%} of cases, above twice chance ({row.chance:.0%})"
        for row in rows
        if (row.task, row.variant) == (TASK, LEFT) and row.accuracy > TELLING * row.chance
    ]
