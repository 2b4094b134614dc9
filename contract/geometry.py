"""Where a point of the original picture lies on an encoder's token grid, and back.

All coordinates are normalised: [0, 1]² of the original picture, [0, 1]² of the encoder's square input.
Cell (r, c) of a G×G grid covers [c/G, (c+1)/G) × [r/G, (r+1)/G) of the input; tokens are row-major.
"""

from collections.abc import Callable

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from contract.boxes import Boxes, area
from contract.column import Transform

Points = NDArray[np.float64]


class Affine(Struct, frozen=True):
    """An axis-aligned map: input = scale · original + shift, per axis (x, y)."""

    scale: tuple[float, float] = (1.0, 1.0)
    shift: tuple[float, float] = (0.0, 0.0)

    def apply(self, points_P2: Points) -> Points:
        """[P,2] (x, y) of the original → [P,2] of the encoder's input."""
        return points_P2 * np.asarray(self.scale, np.float64) + np.asarray(self.shift, np.float64)

    def invert(self, points_P2: Points) -> Points:
        """[P,2] of the encoder's input → [P,2] of the original."""
        return (points_P2 - np.asarray(self.shift, np.float64)) / np.asarray(self.scale, np.float64)


def cell_centres(grid: int) -> Points:
    """[grid², 2] centres (x, y) of the cells in the encoder's input, row-major."""
    steps = (np.arange(grid) + 0.5) / grid
    y, x = np.meshgrid(steps, steps, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1)


def bilinear_weights(
    points_P2: Points, grid: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
    """How to read a G×G token grid at points of the encoder's input.

    Returns cells [P,4], their weights [P,4] (sum 1) and inside [P]: False where the point lies outside
    the input. Same rule as `grid_sample(align_corners=False, padding_mode="border")`.
    """
    inside: NDArray[np.bool_] = np.all((points_P2 >= 0) & (points_P2 <= 1), axis=1)
    at: Points = (points_P2 * grid - 0.5).clip(0, grid - 1)
    low: NDArray[np.int64] = np.minimum(np.floor(at).astype(np.int64), max(grid - 2, 0))
    high = np.minimum(low + 1, grid - 1)
    (fx, fy), (x0, y0), (x1, y1) = (at - low).T, low.T, high.T
    cells = np.stack([y0 * grid + x0, y0 * grid + x1, y1 * grid + x0, y1 * grid + x1], axis=1)
    weights = np.stack([(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx], axis=1)
    return cells, weights.astype(np.float32), inside


def regrid(
    source: Affine, source_grid: int, onto: Affine, onto_grid: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
    """Read one stream's grid at the cells of another, through coordinates of the original picture.

    Returns `bilinear_weights` of the source for each of the onto_grid² cells.
    """
    return bilinear_weights(source.apply(onto.invert(cell_centres(onto_grid))), source_grid)


def affine(transform: Transform, width: int, height: int) -> Affine:
    """The map of a picture of `width` × `height` pixels into an encoder's input, whatever its size."""
    seen_width, seen_height = window(transform, width, height)
    sx, sy = width / seen_width, height / seen_height
    return Affine((sx, sy), ((1 - sx) / 2, (1 - sy) / 2))


def window(transform: Transform, width: int, height: int) -> tuple[int, int]:
    """Width and height, in pixels, of what the encoder sees: a box round the picture's centre.

    Where it is larger than the picture, zeros surround the picture; where it is smaller, the rest is cut off.
    It is resized to the input's square in one step.
    """
    return TRANSFORMS[transform](width, height)


def _squash(width: int, height: int) -> tuple[int, int]:
    """The whole picture, whatever its aspect."""
    return width, height


def _target_pad(width: int, height: int) -> tuple[int, int]:
    """SPRC's TargetPad(1.25): pad the short side to an aspect of 1.25, then the largest centred square."""
    short, long = sorted((width, height))
    padding = max(0, (4 * long - 5 * short) // 10)  # on either side; long / 1.25, truncated
    side = min(short + 2 * padding, long)
    return side, side


def _letterbox(width: int, height: int) -> tuple[int, int]:
    """The smallest square that holds the whole picture."""
    return max(width, height), max(width, height)


def _centre_crop(width: int, height: int) -> tuple[int, int]:
    """The largest square inside the picture."""
    return min(width, height), min(width, height)


TRANSFORMS: dict[Transform, Callable[[int, int], tuple[int, int]]] = {
    "squash": _squash,
    "target_pad": _target_pad,
    "letterbox": _letterbox,
    "centre_crop": _centre_crop,
}


def to_input(boxes_R4: Boxes, place: Affine) -> tuple[Boxes, NDArray[np.bool_]]:
    """Boxes of the picture → boxes of the encoder's input, clipped to it; and which of them are of use [R].

    A box of which the encoder sees less than half is not.
    """
    moved = np.concatenate([place.apply(boxes_R4[:, :2]), place.apply(boxes_R4[:, 2:])], axis=1)
    clipped = moved.clip(0, 1)
    left = area(clipped)
    return clipped, (left > 0) & (2 * left >= area(moved))
