"""Features of the pictures of a plan, read side by side into reused memory."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from contract.index import ABSENT
from contract.manifest import FeatureManifest
from training.batching.faults import all_read, attempt
from training.reading.buffers import Buffers
from training.reading.tars import Tars, read_array
from training.shards import Place, ShardSet

Arrays = dict[str, dict[str, NDArray[Any]]]  # column → member → [P, …]


class Columns:
    """The columns of a set of shards. threads: among which a batch is divided."""

    def __init__(self, shards: ShardSet, tars: Tars, threads: int) -> None:
        self._shards, self._tars, self._threads = shards, tars, threads
        members = [suffix for known in shards.features.values() for suffix in known.suffixes]
        self._pools = {suffix: Buffers() for suffix in members}

    def read(self, places: Sequence[Place], readers: ThreadPoolExecutor) -> dict[str, Any]:
        """`features` and `scales` of a batch of these pictures; Unreadable names those that are damaged."""
        arrays = {name: self._arrays(known, len(places)) for name, known in self._shards.features.items()}
        parts = np.array_split(np.arange(len(places)), self._threads)
        all_read(chain.from_iterable(readers.map(lambda part: self._part(places, part, arrays), parts)))
        tensors = {name: list(map(torch.from_numpy, members.values())) for name, members in arrays.items()}
        return {
            "features": {name: tokens for name, (tokens, *_) in tensors.items()},
            "scales": {name: scales[0] for name, (_, *scales) in tensors.items() if scales},
        }

    def _arrays(self, known: FeatureManifest, pictures: int) -> dict[str, NDArray[Any]]:
        """A column's members: tokens [P, N, D], and the scales [P, N] of int8."""
        tokens, *scales = known.suffixes
        shape = (pictures, known.tokens, known.width)
        made = {tokens: self._pools[tokens].array(shape, known.dtype)}
        return made | {name: self._pools[name].array(shape[:2], "float32") for name in scales}

    def _part(self, places: Sequence[Place], numbers: NDArray[np.int64], arrays: Arrays) -> list[Any]:
        """One thread's share of a batch: a task for each picture would cost more than its reads."""
        return [attempt(partial(self._picture, int(number), arrays), places[number]) for number in numbers]

    def _picture(self, number: int, arrays: Arrays, place: Place) -> None:
        for name, members in arrays.items():
            column = self._shards.shards[place.shard].columns[name]
            absent = int(column.index.rows["flags"][place.row]) & ABSENT
            for suffix, array in members.items():
                if absent:  # a looked-up picture that the encoder could not take: it will be invisible
                    array[number] = 0
                else:
                    read_array(self._tars, column.path, column.index, place.row, suffix, array[number])
