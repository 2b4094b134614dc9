"""Pre-norm transformer blocks with explicit masks (True = real).

Legend: B batch, Q queries, K keys, H hidden.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention of `x` [B,Q,H] to `context` [B,K,H]; keys where `mask` [B,K] is False are unseen.

    A row without a visible key gets zeros, not NaN.
    """

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(hidden, hidden)
        self.key_value = nn.Linear(hidden, 2 * hidden)
        self.out = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """[B,Q,H]."""
        key, value = self.key_value(context).chunk(2, dim=-1)
        query, key, value = self._split(self.query(x)), self._split(key), self._split(value)
        some = mask.any(dim=1)
        seen = (mask | ~some[:, None])[:, None, None, :]
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen, dropout_p=dropout)
        joined = mixed.transpose(1, 2).flatten(2)
        return self.out(joined) * some[:, None, None]

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Sequential):
    """Linear → GELU → Linear, four times as wide inside."""

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__(nn.Linear(hidden, 4 * hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * hidden, hidden))


class SelfBlock(nn.Module):
    """x + attention(x, x), then x + feed-forward(x)."""

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(hidden), Attention(hidden, heads, dropout)
        self.norm_forward, self.forward_layer = nn.LayerNorm(hidden), FeedForward(hidden, dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [B,Q,H], mask [B,Q] → [B,Q,H]."""
        normed = self.norm(x)
        x = x + self.drop(self.attention(normed, normed, mask))
        return x + self.drop(self.forward_layer(self.norm_forward(x)))


class CrossBlock(nn.Module):
    """A SelfBlock over the text with attention to the picture in its middle."""

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(hidden), Attention(hidden, heads, dropout)
        self.norm_cross, self.cross = nn.LayerNorm(hidden), Attention(hidden, heads, dropout)
        self.norm_forward, self.forward_layer = nn.LayerNorm(hidden), FeedForward(hidden, dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, context: Tensor, context_mask: Tensor) -> Tensor:
        """x [B,Q,H] with mask [B,Q], context [B,K,H] with mask [B,K] → [B,Q,H]."""
        normed = self.norm(x)
        x = x + self.drop(self.attention(normed, normed, mask))
        x = x + self.drop(self.cross(self.norm_cross(x), context, context_mask))
        return x + self.drop(self.forward_layer(self.norm_forward(x)))


def sincos_2d(points_N2: Tensor, hidden: int) -> Tensor:
    """[N,hidden] sine–cosine code of points (x, y) in [0, 1], a quarter of the width for each of sin/cos x/y."""
    octaves = torch.arange(hidden // 4, dtype=torch.float32, device=points_N2.device)
    frequency = torch.pi * 32.0 ** (octaves / max(hidden // 4 - 1, 1))
    angles = points_N2[:, :, None].float() * frequency
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)
