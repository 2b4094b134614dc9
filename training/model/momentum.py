"""The momentum encoder: a slow copy of what makes the vectors, without gradient (MoCo, ALBEF)."""

import copy
from typing import Any

import torch
from torch import nn

from training.batch import Batch
from training.heads.itc import ItcHead
from training.objectives.contrast import Vectors
from training.trunk.pretrained_text import PretrainedText
from training.trunk.trunk import Trunk


class Borrowed(nn.Module):
    """A module of another owner, who alone moves, stores and trains it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.owned = (module,)  # in a tuple, so that it is none of this module's own

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """As the module itself."""
        return self.owned[0](*inputs, **named)


def slow_copy(trunk: Trunk) -> Trunk:
    """The trunk with weights of its own, but for a frozen text encoder, which could never differ."""
    text, shared = trunk.text, {}
    if isinstance(text, PretrainedText) and not text.trained:
        shared[id(text.encoder)] = Borrowed(text.encoder)
    return copy.deepcopy(trunk, shared)


class MomentumEncoder(nn.Module):
    """θ_m ← m·θ_m + (1−m)·θ once an optimizer step. Always in evaluation mode: its keys have no dropout."""

    def __init__(self, trunk: Trunk, head: ItcHead, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.trunk, self.head = slow_copy(trunk), copy.deepcopy(head)
        self.head.bank = None
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "MomentumEncoder":
        """Stays as it is."""
        return super().train(False)

    @torch.no_grad()
    def follow(self, trunk: Trunk, head: ItcHead, step: int) -> None:
        """Move towards the trained weights; before the first step become them."""
        towards = 1.0 if step == 0 else 1 - self.momentum
        for slow, fast in ((self.trunk, trunk), (self.head, head)):
            trained = dict(fast.named_parameters())
            for name, parameter in slow.named_parameters():
                parameter.lerp_(trained[name], towards)

    @torch.no_grad()
    def forward(self, batch: Batch) -> Vectors:
        """The keys of a batch."""
        return self.head.vectors(self.trunk(batch), batch)
