"""Gated fusion of picture tokens with a second stream.

    g   = σ(W_g [v; c])
    out = v + α · W_o (g ⊙ W_v v + (1 − g) ⊙ W_c c)

Legend: B pictures, T texts, N tokens, H hidden.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GatedFusionModule(nn.Module):
    """v [B,N,H] and c [B,N,H] → [B,N,H]. With α = 0 the output is v, bit for bit.

    Or c [T,H], each laid over all places of the picture `rows` [T] → [T,N,H]: what is of a picture or of a
    text alone is then computed once for each, and W_o alone for each text's picture.

    alpha: where the learned scale α starts. 2,952,193 parameters at hidden_size 768.
    """

    def __init__(self, hidden_size: int = 768, alpha: float = 0.0) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * hidden_size, hidden_size)
        self.value = nn.Linear(hidden_size, hidden_size)
        self.context = nn.Linear(hidden_size, hidden_size)
        self.out = nn.Linear(hidden_size, hidden_size)
        self.alpha = nn.Parameter(torch.tensor(alpha))

    def forward(self, v: Tensor, c: Tensor, *_masks: Tensor, rows: Tensor | None = None) -> Tensor:
        """Both on the same places; where c is not visible it must be zero, so masks are not needed."""
        if rows is not None:
            return self._over(v, c, rows)
        gate = torch.sigmoid(self.gate(torch.cat([v, c], dim=-1)))
        mixed = torch.lerp(self.context(c), self.value(v), gate)
        return v + self.alpha * self.out(mixed)

    def _over(self, v: Tensor, c: Tensor, rows: Tensor) -> Tensor:
        of_v, of_c = self.gate.weight.chunk(2, dim=1)
        gate = torch.sigmoid(F.linear(v, of_v)[rows] + F.linear(c, of_c, self.gate.bias)[:, None])
        mixed = torch.lerp(self.context(c)[:, None], self.value(v)[rows], gate)
        return v[rows] + self.alpha * self.out(mixed)
