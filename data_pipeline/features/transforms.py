"""A picture → the square that an encoder takes. Which part of the picture that is, contract.geometry says."""

import numpy as np
from PIL import Image, ImageOps
from PIL.Image import Resampling

from contract.column import Transform
from contract.geometry import window
from data_pipeline.pictures.picture_files import Pixels

FILTERS = {
    "squash": Resampling.BILINEAR,
    "letterbox": Resampling.BILINEAR,
    "target_pad": Resampling.BICUBIC,
    "centre_crop": Resampling.BICUBIC,
}


def transform(pixels: Pixels, name: Transform, size: int) -> Pixels:
    """uint8 [H,W,3] → [size,size,3]: the transform's window of it, antialiased; black round the picture.

    Where one side wants black, the other is resized first: the whole square of a long picture is too large.
    """
    picture, kernel = Image.fromarray(pixels), FILTERS[name]
    width, height = picture.size
    across, down = window(name, width, height)
    if across > width:
        picture, down = _middle(picture, (width, down), (width, size), kernel), size
    elif down > height:
        picture, across = _middle(picture, (across, height), (size, height), kernel), size
    return np.array(_middle(picture, (across, down), (size, size), kernel))


def _middle(
    picture: Image.Image, seen: tuple[int, int], size: tuple[int, int], kernel: Resampling
) -> Image.Image:
    """The `seen` pixels in the middle of a picture, resized; black where it has fewer."""
    across, down = (max(0, -(-(wanted - has) // 2)) for wanted, has in zip(seen, picture.size, strict=True))
    if across or down:
        picture = ImageOps.expand(picture, (across, down))
    left, top = ((has - wanted) / 2 for wanted, has in zip(seen, picture.size, strict=True))
    return picture.resize(size, kernel, box=(left, top, left + seen[0], top + seen[1]))
