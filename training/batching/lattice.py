"""Boxes on the cells of a lattice: which cells they touch, and how much of each they cover.

Legend: R boxes, L cells a side, E edges of cells and boxes.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contract.boxes import Boxes

EDGE = 1e-6  # of the whole: rounding of a box that ends on a cell's edge does not touch the next


def touching(boxes_R4: Tensor, lattice: int) -> Tensor:
    """[R,L²] whether a box, in [0, 1] of what the lattice lies over, lies on any part of a cell."""
    edges = torch.arange(lattice + 1, device=boxes_R4.device) / lattice
    low, high = boxes_R4[:, :2, None], boxes_R4[:, 2:, None]
    across, down = ((low < edges[1:] - EDGE) & (high > edges[:-1] + EDGE)).unbind(1)
    return (down[:, :, None] & across[:, None, :]).flatten(1)


def covered(boxes_R4: Boxes, lattice: int) -> NDArray[np.float64]:
    """[L²] the share of each cell that the boxes cover together; 0 of a cell is a cell that none touches."""
    touched = touching(torch.from_numpy(boxes_R4), lattice).any(0).numpy()
    (columns_ER, across_EL), (rows_ER, down_EL) = (_strips(boxes_R4[:, side::2], lattice) for side in (0, 1))
    inside_EE = rows_ER @ columns_ER.T > 0
    share = (down_EL.T @ inside_EE @ across_EL).ravel()
    return np.where(touched, share, 0.0)


def _strips(sides_R2: Boxes, lattice: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of the strips between all edges of one axis: which boxes they lie in, and their share of each cell."""
    edges = np.unique([*np.arange(lattice + 1) / lattice, *sides_R2.clip(0, 1).ravel()])
    middle, width = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    low, high = sides_R2.T
    inside = (low < middle[:, None]) & (middle[:, None] < high)
    own = (middle[:, None] * lattice).astype(np.int64) == np.arange(lattice)
    return inside.astype(np.float64), own * width[:, None] * lattice
