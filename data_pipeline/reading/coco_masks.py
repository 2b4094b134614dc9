"""COCO segmentation → the box around the mask. Polygons, or run lengths down the columns, plain or packed.

pycocotools does the work in C and believes what it is given, so everything that could make it read beyond
its input, divide by zero or ask for gigabytes is refused here first.
"""

import re
from itertools import pairwise
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct
from pycocotools import mask as rle

MAX_SIDE = 65_535  # pixels: what a JPEG can have
MAX_PIXELS = 178_000_000
MAX_OUTLINE = 50  # length of all polygons of a mask, in (width + height) of the picture
SHORTEST_RING = 6  # numbers: three points. Four numbers would be taken for a box
# Packed run lengths: "0".."O" ends a number, "P".."o" continues it; at most 35 bits.
PACKED = re.compile(r"(?:[P-o]{0,6}[0-O])*")

Run = Annotated[int, Meta(ge=0, le=MAX_PIXELS)]
Side = Annotated[int, Meta(ge=1, le=MAX_SIDE)]
Size = tuple[int, int]  # width, height in pixels


class RunLengths(Struct):
    """size: height, width. counts: lengths of the runs of 0, 1, 0, …"""

    size: tuple[Side, Side]
    counts: list[Run] | str


class MaskError(ValueError):
    """A segmentation that says nothing about its picture."""


_segmentation = msgspec.json.Decoder(list[list[float]] | RunLengths | None)


def mask_box(segmentation: Raw, size: Size) -> list[float]:
    """x, y, w, h in pixels, all 0 around a mask without a pixel; [] if there is no segmentation.

    Raises MaskError, or a decoder's error, that says what is wrong with it.
    """
    found = _segmentation.decode(segmentation)
    if not found:
        return []
    width, height = size
    if max(size) > MAX_SIDE or width * height > MAX_PIXELS:
        raise MaskError(f"a mask over a picture of {width} × {height}")
    runs = _of_runs(found, size) if isinstance(found, RunLengths) else _of_polygons(found, size)
    x, y, w, h = rle.toBbox(runs).tolist()
    if x + w > width or y + h > height:
        raise MaskError(f"the runs leave the picture of {width} × {height}")
    return [x, y, w, h]


def _of_runs(found: RunLengths, size: Size) -> Any:
    height, width = found.size
    if (width, height) != size:
        raise MaskError(f"a mask of {width} × {height} over a picture of {size[0]} × {size[1]}")
    if isinstance(found.counts, str):
        if not PACKED.fullmatch(found.counts):
            raise MaskError("counts are no packed run lengths")
        return {"size": [height, width], "counts": found.counts.encode("ascii")}
    if sum(found.counts) != width * height:
        raise MaskError(f"the runs add up to {sum(found.counts)} of {width * height} pixels")
    return rle.frPyObjects({"size": [height, width], "counts": found.counts}, height, width)


def _of_polygons(rings: list[list[float]], size: Size) -> Any:
    width, height = size
    for ring in rings:
        if len(ring) < SHORTEST_RING or len(ring) % 2:
            raise MaskError(f"a polygon of {len(ring)} numbers")
    if sum(_outline(ring) for ring in rings) > MAX_OUTLINE * (width + height):
        raise MaskError("the outline is longer than any object's")
    return rle.merge(rle.frPyObjects(rings, height, width))


def _outline(ring: list[float]) -> float:
    """Pixels that drawing the polygon passes, from the origin on: a far polygon counts as a long one."""
    points = [(0.0, 0.0), *zip(ring[::2], ring[1::2], strict=True)]
    return sum(max(abs(x1 - x0), abs(y1 - y0)) for (x0, y0), (x1, y1) in pairwise(points))
