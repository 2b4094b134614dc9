"""Bidirectional cross-attention: each stream's tokens attend to the other's, layer by layer.

Legend: B pictures or texts, N tokens of the first stream, M of the second, H hidden.
"""

from torch import Tensor, nn

from training.modules.attention import Attention, FeedForward
from training.modules.recompute import Block


class CrossLayer(Block):
    """x + attention(x, other), then x + feed-forward(x), both pre-norm."""

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.norm_other = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.attention = Attention(hidden, heads, dropout)
        self.norm_forward, self.forward_layer = nn.LayerNorm(hidden), FeedForward(hidden, dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, other: Tensor, other_mask: Tensor) -> Tensor:
        """x [B,N,H] reads `other` [B,M,H] where its mask [B,M] is True."""
        x = x + self.drop(self.attention(self.norm(x), self.norm_other(other), other_mask))
        return x + self.drop(self.forward_layer(self.norm_forward(x)))


class CrossAttentionFusion(nn.Module):
    """v reads c and c reads v, `layers` times; in the last layer c has no reader left and stays."""

    def __init__(self, hidden: int, heads: int, dropout: float, *, layers: int = 2) -> None:
        super().__init__()
        self.forth = nn.ModuleList(CrossLayer(hidden, heads, dropout) for _ in range(layers))
        self.back = nn.ModuleList(CrossLayer(hidden, heads, dropout) for _ in range(layers - 1))

    def forward(self, v: Tensor, c: Tensor, v_mask: Tensor, c_mask: Tensor) -> Tensor:
        """v [B,N,H] and c [B,M,H] with masks [B,N] and [B,M] → [B,N,H]."""
        for forth, back in zip(self.forth, self.back, strict=False):
            v, c = forth(v, c, c_mask), back(c, v, v_mask)
        return self.forth[-1](v, c, c_mask)
