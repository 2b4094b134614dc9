"""Pictures as they go into the page.

A picture is a dict for the template: `uri` (a JPEG inside the page), `width`, `height` (pixels of the
file), `boxes` [{x, y, w, h, colour, label}] in those pixels; or `missing`, why there is none.
"""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from contract.errors import RawDataError
from data_pipeline.pictures.picture_files import decode_rgb
from data_pipeline.pictures.thumbnails import thumbnail
from data_pipeline.report.verbatim import Verbatim

Plain = dict[str, Any]
SIDE, QUALITY = 300, 78  # longest side in pixels, JPEG quality


class Album:
    """The pictures of one section of the page, until its room is full. limit: bytes as base64."""

    def __init__(self, limit: int, side: int = SIDE) -> None:
        self._left, self._side = limit, side

    def add(self, path: Path | None, boxes: Sequence[Plain] = ()) -> Plain:
        """The picture of a file, or why there is none."""
        if path is None:
            return {"missing": "no picture"}
        try:
            pixels = decode_rgb(path)
        except RawDataError as error:
            return {"missing": error.problem}
        uri = _data_uri(pixels, self._side)
        if len(uri) > self._left:
            return {"missing": "left out: the page is full"}
        self._left -= len(uri)
        height, width = pixels.shape[:2]
        drawn = [placed(box, width, height) for box in boxes]
        return {"uri": uri, "width": width, "height": height, "boxes": drawn}


def _data_uri(pixels: np.ndarray[Any, Any], side: int) -> Verbatim:
    content = thumbnail(pixels, side, QUALITY)
    return Verbatim("data:image/jpeg;base64," + base64.b64encode(content).decode("ascii"))


def placed(box: Plain, width: int, height: int) -> Plain:
    """A box in pixels, whatever is wrong with it, so that it can be seen: inside the frame and not empty."""
    pad = frame(width, height)
    xs = sorted(_within(edge, -pad, width + pad) for edge in (box["x"], box["x"] + box["w"]))
    ys = sorted(_within(edge, -pad, height + pad) for edge in (box["y"], box["y"] + box["h"]))
    sides = {"w": max(xs[1] - xs[0], 1), "h": max(ys[1] - ys[0], 1)}
    return {**box, "x": xs[0], "y": ys[0], **sides}


def _within(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def frame(width: int, height: int) -> int:
    """Pixels of paper around a picture: room for a box that leaves it."""
    return round(0.06 * max(width, height))
