"""Which dataset's turn it is: a batch holds one dataset, and which one is a pure function of the position.

Training takes turns without end, by weights; a single pass takes the datasets one after another.
"""

from collections.abc import Iterator, Sequence
from itertools import count, islice
from math import gcd

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from contract.errors import ParamsError


class Span(Struct, frozen=True):
    """One batch: `rows` rows of a dataset from `start` of its own on. end: the run's position after it."""

    dataset: int
    start: int
    rows: int
    end: int


def weighted_round(weights: Sequence[int]) -> NDArray[np.int64]:
    """The datasets of a round of batches: each as often as its weight, and as evenly as can be."""
    parts = np.array(weights) // gcd(*weights)
    due = np.concatenate([(np.arange(part) + 0.5) / part for part in parts])
    datasets = np.repeat(np.arange(len(parts)), parts)
    return datasets[np.argsort(due, kind="stable")]


def endless(weights: Sequence[int], batch: int, position: int) -> Iterator[Span]:
    """The batches from `position` on. A dataset's own position is the rows of its batches before this one."""
    if position % batch:
        raise ParamsError(
            "position", "lies inside a batch", found=position, expected=f"a multiple of the batch, {batch}"
        )
    turns = weighted_round(weights)
    before = np.array([np.cumsum(turns == dataset) - (turns == dataset) for dataset in range(len(weights))])
    for number in count(position // batch):
        rounds, turn = divmod(number, len(turns))
        dataset = int(turns[turn])
        done = rounds * int((turns == dataset).sum()) + int(before[dataset, turn])
        yield Span(dataset, done * batch, batch, (number + 1) * batch)


def whole_epoch(rows: Sequence[int], weights: Sequence[int], batch: int) -> int:
    """Rows of a run, from wherever in it, among which each dataset has an epoch of its own at least."""
    rounds = max(-(-of * gcd(*weights) // (batch * weight)) for of, weight in zip(rows, weights, strict=True))
    return (rounds + 1) * batch * sum(weights) // gcd(*weights)


def one_pass(rows: Sequence[int], batch: int, position: int, stop: int) -> Iterator[Span]:
    """The rows from `position` to `stop` of the datasets one after another; the last batch of each is short.

    rows: of each dataset. Beyond the last dataset the first follows again, in its next epoch.
    """
    ends = np.cumsum(rows)
    while position < stop:
        again, place = divmod(position, int(ends[-1]))
        dataset = int(np.searchsorted(ends, place, "right"))
        left = int(ends[dataset]) - place if len(rows) > 1 else batch
        start = (again + 1) * rows[dataset] - (int(ends[dataset]) - place)
        taken = min(batch, left, stop - position)
        position += taken
        yield Span(dataset, start, taken, position)


def shared(spans: Iterator[Span], rank: int, world: int) -> Iterator[tuple[Span, int]]:
    """One process's of every `world` batches, and the position of the run once each process had its own."""
    while turns := list(islice(spans, world)):
        if rank < len(turns):
            yield turns[rank], turns[-1].end
