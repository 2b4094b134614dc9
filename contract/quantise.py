"""Tokens as int8 with a scale each, and back. N tokens, D channels.

q = x / s, rounded half to even, in ±127, with s = max|x| / 127 of the token in float32; 1 for a zero token.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

LIMIT = 127
# The largest scale whose 127-fold is a float32; of the largest number itself, the quotient is rounded up.
LARGEST = np.nextafter(np.finfo(np.float32).max / np.float32(LIMIT), np.float32(0))


def quantise(tokens_ND: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Finite tokens → int8 [N,D] and the scale of each token, float32 [N]."""
    scale_N = np.abs(tokens_ND).max(axis=1, initial=0).astype(np.float32) / np.float32(LIMIT)
    scale_N = np.minimum(scale_N, LARGEST)
    scale_N[scale_N == 0] = 1
    rounded = np.rint(tokens_ND / scale_N[:, None])
    return rounded.clip(-LIMIT, LIMIT).astype(np.int8), scale_N


def dequantise(stored_ND: NDArray[np.int8], scale_N: NDArray[np.float32]) -> NDArray[Any]:
    """float32 [N,D]; off by half a scale at most."""
    return stored_ND * scale_N[:, None]
