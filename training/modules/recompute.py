"""Activation checkpointing: what a block computed inside is not kept, but computed again on the way back."""

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Block(nn.Module):
    """A layer of a stack. recomputed: only its inputs are kept, at the price of a second forward pass.

    The second one draws the same dropout.
    """

    recomputed = False

    def __call__(self, *inputs: Any) -> Any:
        """The forward pass."""
        if self.recomputed and torch.is_grad_enabled():
            return checkpoint(super().__call__, *inputs, use_reentrant=False)
        return super().__call__(*inputs)


def recompute(model: nn.Module) -> None:
    """Switch it on in every block of the model."""
    for module in model.modules():
        if isinstance(module, Block):
            module.recomputed = True
