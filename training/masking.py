"""Masks: drawn once per epoch and picture, in picture coordinates, then projected onto every grid.

Mask: True = visible, everywhere. L² cells of a lattice over the original picture are the unit that is hidden.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from contract.errors import unknown_name
from contract.geometry import Affine, cell_centres

Visible = NDArray[np.bool_]


def random_cells(generator: np.random.Generator, lattice: int, ratio: float) -> Visible:
    """[L²] with exactly round(ratio·L²) cells hidden, every choice equally likely (MAE)."""
    hidden = round(ratio * lattice**2)
    visible = np.ones(lattice**2, np.bool_)
    visible[generator.permutation(lattice**2)[:hidden]] = False
    return visible


KINDS: dict[str, Callable[[np.random.Generator, int, float], Visible]] = {"random": random_cells}


def draw(kind: str, generator: np.random.Generator, lattice: int, ratio: float) -> Visible:
    """One picture's mask [L²] over the original picture."""
    if kind not in KINDS:
        raise unknown_name("train.masking.kind", "mask", kind, KINDS)
    return KINDS[kind](generator, lattice, ratio)


def project(visible: Visible, lattice: int, affine: Affine, grid: int, cls: bool) -> Visible:
    """The mask on an encoder's tokens [N], CLS first where there is one (always visible).

    A token is visible when the centre of its cell lies in a visible cell of the picture; what lies outside
    the picture (padding) is not.
    """
    at = affine.invert(cell_centres(grid))
    inside = ((at >= 0) & (at < 1)).all(1)
    column, row = (at * lattice).astype(np.int64).clip(0, lattice - 1).T
    tokens = visible[row * lattice + column] & inside
    return np.concatenate([[True], tokens]) if cls else tokens
