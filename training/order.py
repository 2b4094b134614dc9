"""Which row comes when: a pure function of the seed and one integer.

position = rows consumed by all ranks together. Row p of a run belongs to epoch p // n at index p % n, so
batches straddle epochs and none is short. Nothing else is state.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from contract.errors import unknown_name
from contract.seeds import rng

Order = NDArray[np.int64]


def global_shuffle(seed: int, epoch: int, rows: int) -> Order:
    """A permutation of all rows, another one every epoch."""
    return rng(seed, "order", epoch).permutation(rows)


def no_shuffle(_seed: int, _epoch: int, rows: int) -> Order:
    """The rows as they lie."""
    return np.arange(rows)


SHUFFLES: dict[str, Callable[[int, int, int], Order]] = {"global": global_shuffle, "none": no_shuffle}


@lru_cache(maxsize=4)  # a batch touches one epoch or two
def epoch_order(shuffle: str, seed: int, epoch: int, rows: int) -> Order:
    """The order of one epoch: each of `rows` once."""
    if shuffle not in SHUFFLES:
        raise unknown_name("shuffle", "order", shuffle, SHUFFLES)
    order = SHUFFLES[shuffle](seed, epoch, rows)
    order.setflags(write=False)
    return order


def rows_at(shuffle: str, seed: int, position: int, count: int, rows: int) -> tuple[Order, Order]:
    """The `count` rows from `position` on, and the epoch of each: two arrays [count]."""
    places = np.arange(position, position + count)
    epochs = places // rows
    chosen = np.empty(count, np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        chosen[here] = epoch_order(shuffle, seed, int(epoch), rows)[places[here] % rows]
    return chosen, epochs


def choose_texts(seed: int, key: str, epoch: int, texts: int, take: int) -> list[int]:
    """Which of a picture's `texts` are shown in an epoch: ⌈texts/take⌉ epochs show every one.

    The slice [e·take, (e+1)·take) modulo texts of a permutation of its own for each picture.
    """
    if take >= texts:
        return list(range(texts))
    permutation = rng(seed, "texts", key).permutation(texts)
    return [int(permutation[place % texts]) for place in range(epoch * take, (epoch + 1) * take)]
