"""Only the tokens that a mask leaves visible travel to a device.

Legend: P pictures, N tokens of a column, D its width, V visible tokens of all pictures together.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor

from training.batch import Batch
from training.reading.buffers import Buffers


class Packed(Struct):
    """A batch whose features are [V,D]. rows: column → [V], where each of them belongs among the P·N."""

    batch: Batch
    rows: dict[str, Tensor]

    def to(self, device: torch.device, non_blocking: bool = False) -> Batch:
        """The batch on a device with its features [P,N,D]: zeros in the places of what did not travel."""
        moved = self.batch.to(device, non_blocking)
        features = {
            name: _placed(tokens, self.rows[name].to(device, non_blocking=non_blocking), moved.visible[name])
            for name, tokens in moved.features.items()
        }
        return replace(moved, features=features)


def _placed(tokens_VD: Tensor, rows_V: Tensor, visible_PN: Tensor) -> Tensor:
    places = tokens_VD.new_zeros(visible_PN.numel(), tokens_VD.shape[1])
    return places.index_copy_(0, rows_V, tokens_VD).unflatten(0, visible_PN.shape)


def pack(batch: Batch, pools: Mapping[str, Buffers]) -> Packed:
    """The visible tokens of every column, in memory of its pool."""
    rows = {name: visible.flatten().nonzero()[:, 0] for name, visible in batch.visible.items()}
    features = {name: _gathered(tokens, rows[name], pools[name]) for name, tokens in batch.features.items()}
    return Packed(replace(batch, features=features), rows)


def _gathered(tokens_PND: Tensor, rows_V: Tensor, pool: Buffers) -> Tensor:
    flat = tokens_PND.flatten(0, 1).numpy()
    out = pool.array((len(rows_V), flat.shape[1]), flat.dtype.str)
    # Other modes of `take` write into a copy first, in case an index is wrong.
    return torch.from_numpy(np.take(flat, rows_V.numpy(), axis=0, out=out, mode="clip"))
