"""Memory of batches, used again once nothing refers to the batch that lay in it: fresh pages cost time."""

import math
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

STEP = 1 << 20  # bytes; batches of nearly one size share a buffer


class _Lent:
    """The base of an array and of every view of it: it lives as long as the last of them."""

    def __init__(self, buffer: NDArray[np.uint8], shape: Sequence[int], dtype: np.dtype[Any]) -> None:
        self.__array_interface__ = buffer.__array_interface__ | {
            "shape": tuple(shape),
            "typestr": dtype.str,
            "descr": [("", dtype.str)],
        }


class Buffers:
    """Arrays of about one size over a few reused buffers.

    pinned: page-locked memory, from which a CUDA device copies by itself while both sides go on.
    """

    def __init__(self, pinned: bool = False) -> None:
        self.pinned = pinned
        self._free: list[NDArray[np.uint8]] = []

    def array(self, shape: Sequence[int], dtype: str) -> NDArray[Any]:
        """An array with whatever the buffer held. The buffer comes back when the last view of it is gone."""
        buffer = self._take(math.prod(shape) * np.dtype(dtype).itemsize)
        lent = _Lent(buffer, shape, np.dtype(dtype))
        weakref.finalize(lent, self._free.append, buffer).atexit = False
        return np.asarray(lent)

    def _take(self, size: int) -> NDArray[np.uint8]:
        """A free buffer that is large enough; smaller ones are dropped."""
        while self._free:
            if len(buffer := self._free.pop()) >= size:
                return buffer
        return self._fresh(-(-size // STEP) * STEP)

    def _fresh(self, size: int) -> NDArray[np.uint8]:
        if not self.pinned:
            return np.empty(size, np.uint8)
        pinned: NDArray[np.uint8] = torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy()
        return pinned
