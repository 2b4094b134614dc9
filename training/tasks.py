"""Tasks: what each makes of a batch. One function and one row; the texts it takes stand in `needs`."""

from collections.abc import Callable

import torch.nn.functional as F
from msgspec import Struct
from torch import Tensor

from contract.errors import unknown_name
from training.batch import Batch
from training.model import FusionModel


class Outcome(Struct):
    """A task's loss, a scalar tensor: the mean over its texts; items, and how many were `correct`."""

    loss: Tensor
    items: int
    correct: Tensor


def vqa(model: FusionModel, batch: Batch) -> Outcome:
    """Cross-entropy of the answer, over questions whose answer is in the vocabulary (`answerable`)."""
    logits = model.answer_logits(batch).float()
    known = batch.answer >= 0
    loss = F.cross_entropy(logits, batch.answer, ignore_index=-1, reduction="sum") / known.sum().clamp(min=1)
    return Outcome(loss, int(known.numel()), (logits.argmax(-1) == batch.answer).sum())


def answerable(batch: Batch) -> int:
    """The texts that the loss of `vqa` is a mean over."""
    return int((batch.answer >= 0).sum())


class Task(Struct, frozen=True):
    """outcome: of a batch. texts: how many its loss is a mean over; the parts of a step weigh by that."""

    outcome: Callable[[FusionModel, Batch], Outcome]
    texts: Callable[[Batch], int]


TASKS = {"vqa": Task(vqa, answerable)}


def task(name: str) -> Task:
    """The task of that name, or the error that lists them."""
    if name not in TASKS:
        raise unknown_name("train.tasks", "task", name, TASKS)
    return TASKS[name]
