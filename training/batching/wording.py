"""What texts and phrases say, as numbers that are equal for the same words, in every batch.

Legend: T texts, L tokens.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor


def ids(said: Sequence[Sequence[int]]) -> Tensor:
    """[T] of texts, each given by its tokens."""
    lengths = np.fromiter(map(len, said), np.int64, len(said))
    mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
    tokens = np.zeros(mask.shape, np.int64)
    tokens[mask] = np.fromiter(chain.from_iterable(said), np.int64, lengths.sum())
    return word_ids(torch.from_numpy(tokens), torch.from_numpy(mask))


def word_ids(tokens_TL: Tensor, mask_TL: Tensor) -> Tensor:
    """[T] 64 bits of each text's tokens in their order, whatever length the batch is padded to."""
    places = torch.arange(1, tokens_TL.shape[1] + 1, device=tokens_TL.device)
    return (_mix(_mix(places) + tokens_TL) * mask_TL).sum(1)


def _mix(x: Tensor) -> Tensor:
    """Bits carried to each other by products that wrap."""
    for shift, factor in ((30, 0x1F58476D1CE4E5B9), (27, 0x14D049BB133111EB)):
        x = (x ^ (x >> shift)) * factor
    return x ^ (x >> 31)
