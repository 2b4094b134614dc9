"""Which row comes when: a pure function of the seed and one integer.

position = rows consumed by all ranks together. Row p of a dataset belongs to its epoch p // n at index p % n,
so batches straddle epochs and none is short. Nothing else is state.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from contract.errors import unknown_name
from contract.seeds import rng

Rows = NDArray[np.uint32]  # half of the memory of int64: ten million rows are a permutation of 40 MB
Counts = NDArray[np.int64]


def global_shuffle(generator: np.random.Generator, counts: Counts, _window: int) -> Rows:
    """A permutation of all rows."""
    rows = np.arange(counts.sum(), dtype=np.uint32)
    generator.shuffle(rows)
    return rows


def window_shuffle(generator: np.random.Generator, counts: Counts, window: int) -> Rows:
    """Shards in random order, rows shuffled among `window` shards at a time: few files are read at once."""
    ends = np.cumsum(counts)
    lie = [np.arange(end - count, end, dtype=np.uint32) for count, end in zip(counts, ends, strict=True)]
    drawn = [lie[shard] for shard in generator.permutation(len(lie))]
    windows = [np.concatenate(drawn[at : at + window]) for at in range(0, len(drawn), window)]
    for rows in windows:
        generator.shuffle(rows)
    return np.concatenate(windows)


def no_shuffle(_generator: np.random.Generator, counts: Counts, _window: int) -> Rows:
    """The rows as they lie."""
    return np.arange(counts.sum(), dtype=np.uint32)


SHUFFLES: dict[str, Callable[[np.random.Generator, Counts, int], Rows]] = {
    "global": global_shuffle,
    "window": window_shuffle,
    "none": no_shuffle,
}


class Order:
    """The order of one dataset's rows. counts: rows of each shard, in the order in which rows are numbered.

    window: shards, of `shuffle: window`.
    """

    def __init__(self, counts: Sequence[int], *, seed: int, shuffle: str, window: int = 1) -> None:
        if shuffle not in SHUFFLES:
            raise unknown_name("train.shuffle", "order", shuffle, SHUFFLES)
        self.seed, self.shuffle, self.window = seed, SHUFFLES[shuffle], window
        self._counts = np.array(counts, np.int64)
        self._rows = int(self._counts.sum())
        self.epoch = lru_cache(maxsize=2)(self._epoch)  # a batch touches one epoch or two

    def __len__(self) -> int:
        return self._rows

    def at(self, position: int, count: int) -> tuple[Rows, NDArray[np.int64]]:
        """The `count` rows from `position` on, and the epoch of each: two arrays [count]."""
        epochs, places = np.divmod(np.arange(position, position + count), len(self))
        rows = np.empty(count, np.uint32)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            rows[here] = self.epoch(int(epoch))[places[here]]
        return rows, epochs

    def _epoch(self, epoch: int) -> Rows:
        """Every row once."""
        return self.shuffle(rng(self.seed, "order", epoch), self._counts, self.window)


def choose_texts(seed: int, key: str, epoch: int, texts: int, take: int) -> list[int]:
    """Which of a picture's `texts` are shown in an epoch: ⌈texts/take⌉ epochs show every one.

    The slice [e·take, (e+1)·take) modulo texts of a permutation of its own for each picture.
    """
    if take >= texts:
        return list(range(texts))
    permutation = rng(seed, "texts", key).permutation(texts)
    return [int(permutation[place % texts]) for place in range(epoch * take, (epoch + 1) * take)]


def turns(epoch: int, texts: int, take: int) -> list[int]:
    """How often each text that `choose_texts` gives was shown before."""
    if take >= texts:
        return [epoch] * texts
    return [place // texts for place in range(epoch * take, (epoch + 1) * take)]
