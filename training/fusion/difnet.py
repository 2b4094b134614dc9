"""DIFNet's iterative independent layer normalisation (Wu et al., CVPR 2022): two streams, shared weights.

One layer f_m over stream m, with attention, feed-forward and the inner norm shared by both streams and the
outer norms private to each:

    a = LN(x + drop(attention(x, x)))       b = LN_m(x + drop(a))       y = LN'_m(b + drop(feed-forward(b)))

The first `separate` layers run `repeats` times on each stream alone; then the streams are added and go on as
one; what they were before that is added again at the end. Legend: B pictures, N tokens, H hidden.
"""

import torch
from torch import Tensor, nn

from contract.errors import ParamsError
from training.modules.attention import Attention
from training.modules.recompute import Block

GRID, PIXEL = 0, 1  # the streams


class DifnetLayer(Block):
    """f_m. 3,156,480 parameters at hidden 512 and inner 2048."""

    def __init__(self, hidden: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(hidden, heads, dropout)
        self.norm = nn.LayerNorm(hidden)
        self.attention_norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in (GRID, PIXEL))
        self.widen, self.narrow = nn.Linear(hidden, inner), nn.Linear(inner, hidden)
        self.forward_norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in (GRID, PIXEL))
        # The published model has this norm and never applies it; its count of parameters includes it.
        self.unused_norm = nn.LayerNorm(hidden).requires_grad_(False)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, stream: int) -> Tensor:
        """x [B,N,H], mask [B,N] → [B,N,H] by the norms of one stream."""
        attended = self.norm(x + self.drop(self.attention(x, x, mask)))
        mixed = self.attention_norms[stream](x + self.drop(attended))
        changed = self.narrow(self.drop(torch.relu(self.widen(mixed))))
        return self.forward_norms[stream](mixed + self.drop(changed))


def check_layers(separate: int, layers: int) -> None:
    """ParamsError unless Lf < N."""
    if not 0 <= separate < layers:
        raise ParamsError(
            "train.fusion.separate",
            "leaves no layer in which the streams meet",
            found=f"separate {separate} of {layers} layers",
            expected=f"0 to {layers - 1}",
        )


class DifnetEncoder(nn.Module):
    """Two streams on one grid → one. 9,469,440 parameters at its defaults.

    hidden, heads, inner, dropout: of every layer. separate, repeats, layers: Lf, T and N of the paper.
    Masks are explicit, so no sum of features is ever taken for padding. A picture without a visible token
    gives numbers, never NaN.
    """

    def __init__(
        self,
        hidden: int = 512,
        heads: int = 8,
        inner: int = 2048,
        dropout: float = 0.1,
        *,
        separate: int = 1,
        repeats: int = 2,
        layers: int = 3,
    ) -> None:
        super().__init__()
        check_layers(separate, layers)
        self.separate, self.repeats = separate, repeats
        self.layers = nn.ModuleList(DifnetLayer(hidden, heads, inner, dropout) for _ in range(layers))

    def forward(self, u: Tensor, v: Tensor, u_mask: Tensor, v_mask: Tensor) -> Tensor:
        """u [B,N,H] (grid) and v [B,N,H] (pixel) with masks [B,N] → [B,N,H], whose mask is u's."""
        for layer in self.layers[: self.separate]:
            for _ in range(self.repeats):
                u, v = layer(u, u_mask, GRID), layer(v, v_mask, PIXEL)
        v = v * v_mask[..., None]
        alone = u + v
        met = alone
        for layer in self.layers[self.separate :]:
            met = layer(met, u_mask, GRID)
        return met + alone
