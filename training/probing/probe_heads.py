"""The probe's heads: what a box, or a question about a box, can be told apart by.

Legend: E examples, D width of the column, L tokens of the longest question, C classes.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from contract.seeds import rng

LEAST = 5  # training examples of a class that can be learned
STEPS, BATCH, HIDDEN = 200, 256, 128
LEARNING_RATE = 3e-3


class Example(NamedTuple):
    """A box [D] and what is asked of it. question: token ids; none where the box itself is asked about."""

    vector: NDArray[np.float32]
    question: list[int]
    label: str


def classes(taught: list[Example]) -> list[str]:
    """Labels that can be learned, in the order of the alphabet."""
    counts = Counter(example.label for example in taught)
    return sorted(label for label, count in counts.items() if count >= LEAST)


def chance(taught: list[Example], asked: list[Example]) -> float:
    """Accuracy of the most frequent label."""
    (most, _), *_ = Counter(example.label for example in taught).most_common(1)
    return sum(example.label == most for example in asked) / len(asked)


class Head(nn.Module):
    """A box [E,D] and the words of a question → logits [E,C]; of no words, the box alone."""

    def __init__(self, width: int, words: int, classes: int) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(words, HIDDEN, mode="mean", padding_idx=0)
        self.norm, self.box = nn.LayerNorm(width), nn.Linear(width, HIDDEN)
        self.out = nn.Sequential(nn.GELU(), nn.Linear(HIDDEN, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, classes))

    def forward(self, boxes_ED: Tensor, words_EL: Tensor) -> Tensor:
        logits: Tensor = self.out(self.box(self.norm(boxes_ED)) + self.words(words_EL))
        return logits


class Linear(nn.Module):
    """A box [E,D], normalised, → logits [E,C] by one matrix. It is asked nothing in words."""

    def __init__(self, width: int, _words: int, classes: int) -> None:
        super().__init__()
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, boxes_ED: Tensor, _words_EL: Tensor) -> Tensor:
        logits: Tensor = self.out(self.norm(boxes_ED))
        return logits


def score(
    taught: list[Example], asked: list[Example], seed: int, build: type[Head | Linear] = Head
) -> float | None:
    """Accuracy over `asked` of a head trained on `taught`; None where there is nothing to learn or to ask.

    A label that training never saw counts as wrong.
    """
    known = classes(taught)
    taught = [example for example in taught if example.label in known]
    if len(known) < 2 or not asked:
        return None
    words = 1 + max((max(e.question, default=0) for e in [*taught, *asked]), default=0) + 1
    torch.manual_seed(seed)
    head = build(len(taught[0].vector), words, len(known))
    optimizer = torch.optim.AdamW(head.parameters(), LEARNING_RATE)
    boxes, questions, labels = _tensors(taught, known)
    order = rng(seed, "probe batches")
    for _ in range(STEPS):
        rows = torch.from_numpy(order.integers(0, len(labels), BATCH))
        loss = functional.cross_entropy(head(boxes[rows], questions[rows]), labels[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    with torch.inference_mode():
        boxes, questions, labels = _tensors(asked, known)
        return float((head.eval()(boxes, questions).argmax(-1) == labels).float().mean())


def _tensors(found: list[Example], known: list[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes [E,D], question tokens [E,L] (0 = none, ids from 1), labels [E] (-1 = never learned)."""
    longest = max((len(example.question) for example in found), default=0) or 1
    words = np.zeros((len(found), longest), np.int64)
    for row, example in zip(words, found, strict=True):
        row[: len(example.question)] = np.array(example.question, np.int64) + 1
    numbers = {label: number for number, label in enumerate(known)}
    labels = torch.tensor([numbers.get(example.label, -1) for example in found])
    boxes = torch.from_numpy(np.stack([example.vector for example in found]))
    return boxes, torch.from_numpy(words), labels
