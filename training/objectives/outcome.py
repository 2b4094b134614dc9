"""What a task makes of a batch."""

from msgspec import Struct
from torch import Tensor


class Outcome(Struct):
    """loss: a scalar, the mean over the task's texts. measures: name → (sum, count), for the log."""

    loss: Tensor
    measures: dict[str, tuple[Tensor, int]]
