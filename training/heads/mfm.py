"""Masked feature modelling: the frozen features of hidden tokens, guessed from the visible ones (after MAE).

Legend: P pictures, N tokens, H hidden, D width of the column.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from training.batch import Batch
from training.modules.attention import SelfBlock
from training.objectives.outcome import Outcome
from training.trunk.picture import Column
from training.trunk.trunk import Shared


class MfmHead(nn.Module):
    """Picture tokens [P,N,H] → the first column's features, each token with mean 0 and variance 1."""

    def __init__(self, hidden: int, heads: int, layers: int, dropout: float, column: Column) -> None:
        super().__init__()
        self.name = column.name
        self.blocks = nn.ModuleList(SelfBlock(hidden, heads, dropout) for _ in range(layers))
        self.norm, self.decode = nn.LayerNorm(hidden), nn.Linear(hidden, column.width)

    def forward(self, shared: Shared, batch: Batch) -> Outcome:
        """Σ(l · hidden) / Σ hidden, l the mean squared error of a token; `explained` is 1 − l."""
        tokens = shared.picture
        for block in self.blocks:
            tokens = block(tokens, shared.visible)
        guessed = self.decode(self.norm(tokens)).float()
        hidden = batch.hidden[self.name]
        error = hidden_error(guessed, batch.tokens_of(self.name).float(), hidden)
        count = int(hidden.sum())
        return Outcome((error / max(1, count),), {"explained": (count - error.detach(), count)})


def hidden_error(guessed_PND: Tensor, features_PND: Tensor, hidden_PN: Tensor) -> Tensor:
    """The sum over hidden tokens of their mean squared error."""
    wanted = F.layer_norm(features_PND, features_PND.shape[-1:])
    return ((guessed_PND - wanted).square().mean(-1) * hidden_PN).sum()
