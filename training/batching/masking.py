"""Masks: drawn once per epoch and picture, in picture coordinates, then projected onto every grid.

Mask: True = visible, everywhere. L² cells of a lattice over the original picture are the unit that is hidden;
`budget` of them are, exactly, whatever the kind.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from contract.boxes import Boxes
from contract.errors import unknown_name
from contract.geometry import Affine, cell_centres
from training.batching.lattice import covered

Visible = NDArray[np.bool_]

SMALLEST_BLOCK = 16 / 196  # share of the lattice (BEiT: 16 of 14 × 14 patches)
ASPECT = 0.3  # of a block: between this and its inverse
TRIES = 10  # to place another block


def draw(
    kind: str, generator: np.random.Generator, lattice: int, ratio: float, boxes_R4: Boxes | None = None
) -> Visible:
    """One picture's mask [L²] over the original picture, round(ratio · L²) cells of it hidden.

    boxes: of the picture's regions; what `object` hides first.
    """
    if kind not in KINDS:
        raise unknown_name("train.masking.kind", "mask", kind, KINDS)
    boxes = np.zeros((0, 4)) if boxes_R4 is None else boxes_R4
    visible = np.ones(lattice**2, np.bool_)
    visible[KINDS[kind](generator, lattice, round(ratio * lattice**2), boxes)] = False
    return visible


Cells = NDArray[np.int64]


def random_cells(generator: np.random.Generator, lattice: int, budget: int, _boxes: Boxes) -> Cells:
    """Every choice equally likely (MAE)."""
    return generator.permutation(lattice**2)[:budget]


def blocks(generator: np.random.Generator, lattice: int, budget: int, _boxes: Boxes) -> Cells:
    """Rectangles of random size and aspect (BEiT), and single cells for what no rectangle fits."""
    hidden = np.zeros((lattice, lattice), np.bool_)
    tries = TRIES
    while tries and hidden.sum() < budget:
        block = _block(generator, lattice, budget - int(hidden.sum()))
        fresh = ~hidden[block]
        fits = 0 < fresh.sum() <= budget - hidden.sum()
        hidden[block] |= fits
        tries = TRIES if fits else tries - 1
    rest = generator.permutation(np.flatnonzero(~hidden))[: budget - int(hidden.sum())]
    return np.concatenate([np.flatnonzero(hidden), rest])


def _block(generator: np.random.Generator, lattice: int, left: int) -> tuple[slice, slice]:
    """Where a rectangle of at most about `left` cells lies."""
    area = generator.uniform(min(SMALLEST_BLOCK * lattice**2, left), left)
    aspect = math.exp(generator.uniform(math.log(ASPECT), -math.log(ASPECT)))
    height, width = (min(lattice, max(1, round(math.sqrt(side)))) for side in (area * aspect, area / aspect))
    top, left_edge = (int(generator.integers(0, lattice - side + 1)) for side in (height, width))
    return slice(top, top + height), slice(left_edge, left_edge + width)


def centre(generator: np.random.Generator, lattice: int, budget: int, _boxes: Boxes) -> Cells:
    """The cells nearest to the middle; those equally near in random order."""
    distance = np.square(cell_centres(lattice) - 0.5).sum(1).round(12)
    return np.lexsort((generator.random(lattice**2), distance))[:budget]


def objects(generator: np.random.Generator, lattice: int, budget: int, boxes: Boxes) -> Cells:
    """The cells that boxes cover most, those alike at random; where they are too few, others at random."""
    share = covered(boxes, lattice).round(12)
    return np.lexsort((generator.random(lattice**2), -share))[:budget]


KINDS: dict[str, Callable[[np.random.Generator, int, int, Boxes], Cells]] = {
    "random": random_cells,
    "block": blocks,
    "centre": centre,
    "object": objects,
}


def project(drawn: Visible, lattice: int, affine: Affine, grid: int, cls: bool) -> tuple[Visible, Visible]:
    """The mask on an encoder's tokens: (visible [N], hidden [N]), CLS first where there is one.

    A token is visible when the centre of its cell lies in a visible cell of the picture, and hidden when in
    a hidden one. What lies outside the picture (padding) is neither; CLS is always visible.
    """
    at = affine.invert(cell_centres(grid))
    inside = ((at >= 0) & (at < 1)).all(1)
    column, row = (at * lattice).astype(np.int64).clip(0, lattice - 1).T
    kept = drawn[row * lattice + column]
    return _with_cls(kept & inside, True, cls), _with_cls(~kept & inside, False, cls)


def _with_cls(tokens: Visible, first: bool, cls: bool) -> Visible:
    return np.concatenate([[first], tokens]) if cls else tokens
