"""Boxes: `xyxy`, float, in [0, 1] of the original picture, x0 < x1 and y0 < y1.

Legend: R boxes. A box file in any other form is turned into this one where it is read.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Boxes = NDArray[np.float64]


def from_xywh(xywh: ArrayLike, width: ArrayLike, height: ArrayLike) -> Boxes:
    """Pixel `xywh` [R,4] (top-left, 0-based) of pictures `width` × `height` → normalised xyxy [R,4]."""
    x, y, w, h = np.asarray(xywh, np.float64).reshape(-1, 4).T
    width, height = np.asarray(width, np.float64), np.asarray(height, np.float64)
    return np.stack([x / width, y / height, (x + w) / width, (y + h) / height], axis=1)


def is_valid(boxes_R4: ArrayLike) -> NDArray[np.bool_]:
    """[R] bool: finite, inside the picture, of positive width and height."""
    boxes = np.asarray(boxes_R4, np.float64).reshape(-1, 4)
    inside = np.isfinite(boxes).all(1) & (boxes >= 0).all(1) & (boxes <= 1).all(1)
    return inside & (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])


def area(boxes_R4: ArrayLike) -> NDArray[np.float64]:
    """[R] share of the picture that each box covers."""
    boxes = np.asarray(boxes_R4, np.float64).reshape(-1, 4)
    widths: Boxes = (boxes[:, 2] - boxes[:, 0]).clip(0)
    heights: Boxes = (boxes[:, 3] - boxes[:, 1]).clip(0)
    return widths * heights
