"""How alike vectors are. Legend: R rows, C columns, W width."""

import torch
from torch import Tensor


def similarities(row_RW: Tensor, column_CW: Tensor) -> Tensor:
    """[R,C] dot products, in float32 under autocast too.

    Autocast takes float32 factors back to bf16: at a scale of 100 a logit is then off by a third, and the
    gradient cache, which contrasts outside of autocast, would see other logits than a step in one part.
    """
    with torch.autocast(row_RW.device.type, enabled=False):
        return row_RW.float() @ column_CW.float().T
