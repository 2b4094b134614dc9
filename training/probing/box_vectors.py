"""Boxes of a picture → one vector each, from the tokens of a frozen column.

Legend: R boxes, N tokens, G cells a side, D width.
"""

import numpy as np
from numpy.typing import NDArray

from contract.boxes import Boxes
from contract.geometry import affine, to_input
from contract.manifest import FeatureManifest
from contract.record import Record

Tokens = NDArray[np.float32]


def box_vectors(cells_GGD: Tokens, record: Record, column: FeatureManifest) -> dict[int, Tokens]:
    """Row of the region → mean [D] of what its box covers, for the boxes that the encoder sees."""
    boxes_R4 = np.array(record.regions.box, np.float64).reshape(-1, 4)
    inside, seen = to_input(boxes_R4, affine(column.transform, record.width, record.height))
    rows = np.flatnonzero(seen)
    across, down = covered(inside[rows], len(cells_GGD))
    vectors = np.einsum("rg,rh,ghd->rd", down, across, cells_GGD, optimize=True)
    return dict(zip(rows.tolist(), vectors.astype(np.float32), strict=True))


def covered(boxes_R4: Boxes, grid: int) -> tuple[Boxes, Boxes]:
    """[R,G] along x and along y: the share of a box that lies in each column and row of cells; sums are 1."""
    edges = np.arange(grid + 1) / grid
    low, high = boxes_R4[:, :2, None], boxes_R4[:, 2:, None]
    lengths = (np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1])).clip(0)
    shares = lengths / lengths.sum(-1, keepdims=True)
    return shares[:, 0], shares[:, 1]


def grid_of(tokens_ND: Tokens, column: FeatureManifest, block: int = 1) -> Tokens:
    """Tokens without CLS as [G,G,D]; cells averaged exactly in blocks of block × block."""
    side = column.grid // block
    cells = tokens_ND[column.cls :].reshape(side, block, side, block, -1)
    return np.asarray(cells.mean(axis=(1, 3)), np.float32)
