"""Tasks: the head of each, and what it makes of a batch. A row each; the texts it takes stand in `needs`."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct
from torch import nn

from training.batch import Batch
from training.heads.vqa import VqaHead


class Sizes(Struct, frozen=True):
    """What a head may be built from. answers: size of the answer vocabulary."""

    hidden: int
    heads: int
    layers: int
    dropout: float
    answers: int


class Task(Struct, frozen=True):
    """head: from the sizes and the task's own settings; calling it on (shared, batch) gives an Outcome.

    texts: how many the loss of a batch is a mean over; the parts of a step weigh by that. goal: the measure
    that chooses the best checkpoint, the higher the better.
    """

    head: Callable[[Sizes, Any], nn.Module]
    texts: Callable[[Batch], int]
    goal: str


def answerable(batch: Batch) -> int:
    """Questions whose answer is in the vocabulary."""
    return int((batch.answer[batch.rows["vqa"]] >= 0).sum())


TASKS = {
    "vqa": Task(
        lambda sizes, options: VqaHead(
            sizes.hidden, sizes.heads, sizes.layers, sizes.answers, sizes.dropout, options.label_smoothing
        ),
        answerable,
        "accuracy",
    )
}
