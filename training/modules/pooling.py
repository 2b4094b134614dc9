"""Many tokens → one vector, over a mask. Legend: B batch, N tokens, H hidden, W width."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean [B,H] of tokens [B,N,H] where mask [B,N] is True; zero where it is nowhere."""
    return _weighted_sum(mask, tokens) / mask.sum(1, keepdim=True).clamp(min=1)


def masked_max(tokens: Tensor, mask: Tensor) -> Tensor:
    """Greatest [B,H] of tokens [B,N,H] where mask [B,N] is True; zero where it is nowhere."""
    lowest = torch.finfo(tokens.dtype).min
    greatest = tokens.masked_fill(~mask[..., None], lowest).amax(1)
    return torch.where(mask.any(1)[:, None], greatest, 0)


class AttentionPool(nn.Module):
    """Mean over the mask, weighted by a softmax of learned scores; zero where the mask is nowhere True."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.score = nn.Linear(hidden, 1)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """tokens [B,N,H], mask [B,N] → [B,H]."""
        scores = self.score(tokens)[..., 0].float()
        weight = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(1) * mask
        return _weighted_sum(weight, tokens)


def _weighted_sum(weight_BN: Tensor, tokens_BNH: Tensor) -> Tensor:
    """[B,H], as one product: a weighted copy of the tokens would be as large as they are."""
    return torch.einsum("bn,bnh->bh", weight_BN.to(tokens_BNH.dtype), tokens_BNH)


class Plain(nn.Module):
    """A pooling that learns nothing."""

    def __init__(self, pool: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """tokens [B,N,H], mask [B,N] → [B,H]."""
        return self.pool(tokens, mask)


POOLINGS: dict[str, Callable[[int], nn.Module]] = {
    "mean": lambda _hidden: Plain(masked_mean),
    "max": lambda _hidden: Plain(masked_max),
    "attention": AttentionPool,
}


class VisionAggregator(nn.Module):
    """A picture as one vector: [CLS ; mean of the visible cells] → Linear. cls: the first token is a CLS.

    A CLS that is missing or hidden is the mean.
    """

    def __init__(self, hidden: int, width: int, cls: bool) -> None:
        super().__init__()
        self.cls = int(cls)
        self.project = nn.Linear(2 * hidden, width)

    def forward(self, tokens: Tensor, visible: Tensor) -> Tensor:
        """tokens [B,N,H], visible [B,N] → [B,W]."""
        first = mean = masked_mean(tokens[:, self.cls :], visible[:, self.cls :])
        if self.cls:
            first = torch.where(visible[:, :1], tokens[:, 0], mean)
        vectors: Tensor = self.project(torch.cat([first, mean], dim=1))
        return vectors
