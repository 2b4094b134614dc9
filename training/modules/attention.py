"""Pre-norm transformer blocks with explicit masks (True = real).

Legend: B batch, Q queries, K keys, H hidden; T texts, L tokens, P pictures, N picture tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.modules.recompute import Block


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
        # Linear's own start leaves attention so even that the first epochs are spent on leaving it:
        # Xavier (Vaswani et al. 2017) reached 60 % on the demo in 3 epochs instead of 5.
        for square in (self.query.weight, *self.key_value.weight.chunk(2), self.out.weight):
            nn.init.xavier_uniform_(square)

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
        super().__init__(
            nn.Linear(hidden, 4 * hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * hidden, hidden)
        )


class SelfBlock(Block):
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


class ByPicture:
    """Texts side by side with the others of their picture, so that a picture's keys are computed once.

    text_picture [T]: the picture of each text, in any order. S = most texts of one picture, at least 1.
    """

    def __init__(self, text_picture: Tensor, pictures: int) -> None:
        count = torch.bincount(text_picture, minlength=max(1, pictures))
        order = text_picture.argsort(stable=True)
        first = count.cumsum(0) - count
        slot = torch.empty_like(text_picture)
        slot[order] = torch.arange(len(order), device=order.device) - first[text_picture[order]]
        self.pictures, self.slots = pictures, max(1, int(count.max()))
        self.place = text_picture * self.slots + slot

    def pack(self, x: Tensor) -> Tensor:
        """[T,L,H] → [P,S·L,H]; places without a text are zero."""
        packed = x.new_zeros(self.pictures * self.slots, *x.shape[1:]).index_copy(0, self.place, x)
        return packed.view(self.pictures, self.slots * x.shape[1], x.shape[-1])

    def unpack(self, packed: Tensor, length: int) -> Tensor:
        """[P,S·L,H] → [T,L,H]."""
        return packed.view(self.pictures * self.slots, length, packed.shape[-1])[self.place]


class CrossBlock(Block):
    """A SelfBlock over the text with attention to the picture in its middle."""

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(hidden), Attention(hidden, heads, dropout)
        self.norm_cross, self.cross = nn.LayerNorm(hidden), Attention(hidden, heads, dropout)
        self.norm_forward, self.forward_layer = nn.LayerNorm(hidden), FeedForward(hidden, dropout)
        self.drop = nn.Dropout(dropout)

    def forward(
        self, text: Tensor, mask: Tensor, picture: Tensor, visible: Tensor, where: ByPicture, queries: int
    ) -> Tensor:
        """Texts [T,L,H] with mask [T,L], pictures [P,N,H] with visible [P,N] → the first `queries` states."""
        normed, x = self.norm(text), text[:, :queries]
        x = x + self.drop(self.attention(normed[:, :queries], normed, mask))
        seen = self.cross(where.pack(self.norm_cross(x)), picture, visible)
        x = x + self.drop(where.unpack(seen, x.shape[1]))
        return x + self.drop(self.forward_layer(self.norm_forward(x)))


def sincos_2d(points_N2: Tensor, hidden: int) -> Tensor:
    """[N,hidden] code of points (x, y) in [0, 1]: sines and cosines of x, then of y, in rising octaves."""
    octaves = torch.arange(hidden // 4, dtype=torch.float32, device=points_N2.device)
    frequency = torch.pi * 8.0 ** (octaves / max(hidden // 4 - 1, 1))
    angles = points_N2[:, :, None].float() * frequency
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)
