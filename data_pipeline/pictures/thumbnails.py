"""Pixels → a small JPEG."""

import numpy as np
import simplejpeg
from PIL import Image

from data_pipeline.pictures.picture_files import Pixels


def thumbnail(pixels: Pixels, side: int, quality: int = 85) -> bytes:
    """A picture as JPEG, its longest side at most `side` pixels; a smaller one keeps its size."""
    small = Image.fromarray(pixels)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(small), quality, colorspace="RGB"))
