"""The inverse temperature of a contrast."""

import math

import torch
from torch import Tensor, nn


class LogitScale(nn.Module):
    """A scalar from `init` on, learned in logarithms where `learned`, never above `most` (CLIP: 100).

    The limit is put on the parameter after each optimizer step, as CLIP does: in the graph it would leave a
    scale that reached it without a gradient, and so without a way back.
    """

    def __init__(self, init: float, most: float, learned: bool) -> None:
        super().__init__()
        self.most = math.log(most)
        self.log = nn.Parameter(torch.tensor(math.log(init)), requires_grad=learned)

    def forward(self) -> Tensor:
        """The scale."""
        return self.log.exp()

    @torch.no_grad()
    def limit(self) -> None:
        """Back to `most` if the last step went beyond."""
        self.log.clamp_(max=self.most)
