"""A picture → the square that an encoder takes. Which part of the picture that is, contract.geometry says."""

import numpy as np
from PIL import Image
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
    """uint8 [H,W,3] → [size,size,3]: the transform's window of it, antialiased; black round the picture."""
    height, width = pixels.shape[:2]
    seen = np.array(window(name, width, height))
    padding = np.maximum(0, -(-(seen - (width, height)) // 2))  # left and top, and as much across
    if padding.any():
        across, down = padding
        pixels = np.pad(pixels, ((down, down), (across, across), (0, 0)))
    corner = padding - (seen - (width, height)) / 2
    box = (*corner.tolist(), *(corner + seen).tolist())
    return np.array(Image.fromarray(pixels).resize((size, size), FILTERS[name], box=box))
