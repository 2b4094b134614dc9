"""Features of the pictures of a plan, read side by side into reused memory."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import chain
from typing import Any

import torch

from contract.errors import ShardError
from contract.manifest import FeatureManifest
from training.batching.faults import Fault, Unreadable
from training.reading.buffers import Buffers
from training.reading.members import Member, Reader, Rows
from training.reading.tars import Tars
from training.shards import Place, ShardSet

Arrays = dict[str, dict[str, Rows]]  # column → member → [P, …]


class Columns:
    """The columns of a set of shards. threads: among which a batch is divided."""

    def __init__(self, shards: ShardSet, tars: Tars, threads: int) -> None:
        self._shards, self._tars, self._threads = shards, tars, threads
        members = [suffix for known in shards.features.values() for suffix in known.suffixes]
        self._tokens = {name: known.suffixes[0] for name, known in shards.features.items()}
        self._pools = {suffix: Buffers() for suffix in members}
        self._member = lru_cache(maxsize=None)(self._open_member)

    def read(self, places: Sequence[Place], readers: ThreadPoolExecutor) -> dict[str, Any]:
        """`features` and `scales` of a batch of these pictures; Unreadable names those that are damaged.

        A task a thread, for one a picture would cost more than its reads.
        """
        arrays = {name: self._arrays(known, len(places)) for name, known in self._shards.features.items()}
        parts = [range(first, len(places), self._threads) for first in range(self._threads)]
        faults = list(chain.from_iterable(readers.map(lambda part: self._part(places, part, arrays), parts)))
        if faults:
            raise Unreadable(faults)
        tensors = {
            name: [torch.from_numpy(rows.array) for rows in members.values()]
            for name, members in arrays.items()
        }
        return {
            "features": {name: tokens for name, (tokens, *_) in tensors.items()},
            "scales": {name: scales[0] for name, (_, *scales) in tensors.items() if scales},
        }

    def pin(self) -> None:
        """Read into page-locked memory from now on, from which a CUDA device copies by itself."""
        for pool in self._pools.values():
            pool.pinned = True

    def absent(self, place: Place, name: str) -> bool:
        """Whether the encoder of a column could not take the picture, whose row is zeros then."""
        return self._member(place.shard, name, self._tokens[name]).absent(place.row)

    def _arrays(self, known: FeatureManifest, pictures: int) -> dict[str, Rows]:
        """A column's members: tokens [P, N, D], and the scales [P, N] of int8."""
        return {
            suffix: Rows(self._pools[suffix].array((pictures, *shape), dtype))
            for suffix, (shape, dtype) in known.arrays.items()
        }

    def _part(self, places: Sequence[Place], numbers: Iterable[int], arrays: Arrays) -> list[Fault]:
        """Read one thread's share of a batch → the pictures of it that are damaged."""
        faults = []
        with Reader(self._tars) as reader:
            for number in numbers:
                try:
                    self._picture(reader, places[number], number, arrays)
                except ShardError as error:
                    faults.append(Fault(places[number], error))
        return faults

    def _picture(self, reader: Reader, place: Place, number: int, arrays: Arrays) -> None:
        for name, members in arrays.items():
            for suffix, out in members.items():
                member = self._member(place.shard, name, suffix)
                if member.absent(place.row):  # a looked-up one: it will be invisible
                    out.array[number] = 0
                else:
                    reader.array(member, place.row, out, number)

    def _open_member(self, shard: int, name: str, suffix: str) -> Member:
        column = self._shards.shards[shard].columns[name]
        return Member(column.path, column.index, suffix)
