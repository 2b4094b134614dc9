"""Where the picture of a key lies, among millions: sorted hashes of the keys, not a dictionary of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from contract.index import KEY_BYTES
from contract.seeds import hash_keys


class Lookup:
    """Keys of one dataset → (shard, row). keys: of each shard; shards: their numbers."""

    def __init__(self, shards: Sequence[int], keys: Sequence[NDArray[np.bytes_]]) -> None:
        self._keys = dict(zip(shards, keys, strict=True))
        hashes = np.concatenate([hash_keys(of_shard) for of_shard in keys])
        order = np.argsort(hashes).astype(np.uint32)
        lengths = [len(of_shard) for of_shard in keys]
        self._hashes = hashes[order]
        self._shard = np.repeat(np.array(shards, np.uint32), lengths)[order]
        self._row = np.concatenate([np.arange(length, dtype=np.uint32) for length in lengths])[order]

    def find(self, keys: Sequence[str]) -> list[tuple[int, int] | None]:
        """(shard, row) of each key; None where none of the shards holds it."""
        # A byte more than a key may have: cut there, a longer one is still none of them.
        wanted = np.array([key.encode("ascii", "replace") for key in keys], f"S{KEY_BYTES + 1}")
        hashes = hash_keys(wanted)
        first = np.searchsorted(self._hashes, hashes)
        return [self._there(*of_key) for of_key in zip(wanted, hashes, first, strict=True)]

    def _there(self, key: bytes, hashed: np.uint64, place: int) -> tuple[int, int] | None:
        """The row of that key among those of its hash, which lie side by side from `place` on."""
        while place < len(self._hashes) and self._hashes[place] == hashed:
            shard, row = int(self._shard[place]), int(self._row[place])
            if self._keys[shard][row] == key:
                return shard, row
            place += 1
        return None
