"""What a task makes of a batch."""

import torch
from msgspec import Struct
from torch import Tensor


class Outcome(Struct):
    """losses: scalars, each the mean over what the task's row of TASKS counts for it. measures: name → (sum,
    count), for the log; the `…_chance` of a measure is what a guess would reach.
    """

    losses: tuple[Tensor, ...]
    measures: dict[str, tuple[Tensor, int]]

    @property
    def loss(self) -> Tensor:
        """What the batch alone teaches."""
        return torch.stack(self.losses).sum()
