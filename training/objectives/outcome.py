"""What a task makes of a batch."""

from msgspec import Struct
from torch import Tensor


class Outcome(Struct):
    """loss: a scalar, the mean over the task's texts. measures: name → (sum, count), for the log; the
    `…_chance` of a measure is what a guess would reach.
    """

    loss: Tensor
    measures: dict[str, tuple[Tensor, int]]
