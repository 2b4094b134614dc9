"""The inverse temperature of a contrast."""

import math

import torch
from torch import Tensor, nn


class LogitScale(nn.Module):
    """A scalar from `init` on, learned in logarithms where `learned`, never above `most` (CLIP: 100)."""

    def __init__(self, init: float, most: float, learned: bool) -> None:
        super().__init__()
        self.most = most
        self.log = nn.Parameter(torch.tensor(math.log(init)), requires_grad=learned)

    def forward(self) -> Tensor:
        """The scale."""
        return self.log.exp().clamp(max=self.most)
