"""Changes of frozen features that leave every label true. In training only; elsewhere each is the identity.

Legend: P pictures, N tokens, D width.
"""

import torch
from torch import Tensor, nn


class FeatureNoise(nn.Module):
    """Normal noise of standard deviation `sigma` on every number. Its input is normalised, so 1 is as loud
    as the features themselves.
    """

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def forward(self, features: Tensor) -> Tensor:
        """[P,N,D] → [P,N,D]."""
        if not self.training or not self.sigma:
            return features
        return features + self.sigma * torch.randn_like(features)


class TokenDropout(nn.Module):
    """Hides each visible token with probability `share`; never CLS, and never all of a picture's tokens."""

    def __init__(self, share: float, cls: bool) -> None:
        super().__init__()
        self.share, self.cls = share, cls

    def forward(self, visible: Tensor) -> Tensor:
        """[P,N] → [P,N], True only where it was."""
        if not self.training or not self.share:
            return visible
        drawn = torch.rand(visible.shape, device=visible.device)
        kept = visible & (drawn >= self.share)
        kept[:, : self.cls] = visible[:, : self.cls]
        most = torch.where(visible, drawn, -1.0).argmax(1, keepdim=True)
        spared = torch.zeros_like(visible).scatter_(1, most, True) & visible
        return torch.where(kept.any(1, keepdim=True), kept, spared)
