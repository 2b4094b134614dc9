"""Which declared pictures are the same photograph, across datasets.

Evidence: a shared source id, equal bytes, or a perceptual hash within two bits whose thumbs agree.
Re-encoding real photographs at quality 60–95 moved at most 2 of the 64 bits and 3 of 255 grey levels of
the thumbs; the nearest different ones of 40 were 14 bits apart.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

MAX_BITS = 2
MAX_THUMB_DIFFERENCE = 12  # of 255, in every channel of every one of the 8×8 cells
THUMB_BYTES = 8 * 8 * 3
BANDS = 4  # with fewer differing bits than bands, one band of 16 bits is equal


def groups(keys: Sequence[Iterable[str]], pairs: Iterable[tuple[int, int]] = ()) -> list[int]:
    """Rows that share a key, or are a pair, directly or through others → per row, its earliest member."""
    parent = list(range(len(keys)))
    holder: dict[str, int] = {}
    for row, row_keys in enumerate(keys):
        for name in row_keys:
            _join(parent, row, holder.setdefault(name, row))
    for a, b in pairs:
        _join(parent, a, b)
    return [_root(parent, row) for row in range(len(keys))]


def _root(parent: list[int], row: int) -> int:
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = parent[row]
    return row


def _join(parent: list[int], a: int, b: int) -> None:
    """The earlier root stays the root, so a later drop never renames a group."""
    a, b = sorted((_root(parent, a), _root(parent, b)))
    parent[b] = a


def look_alikes(hashes_N: NDArray[np.uint64], thumbs_N192: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Pairs (i < j) that join the same picture in another encoding or size, each once.

    Rows with equal hash and thumb are joined to the first of them, and only the first is compared further:
    many copies of one picture cost no more than their number.
    """
    first_M, of_N = _distinct(hashes_N, thumbs_N192)
    copies = np.flatnonzero(first_M[of_N] != np.arange(len(of_N)))
    yield from zip(first_M[of_N[copies]].tolist(), copies.tolist(), strict=True)
    hashes, thumbs = hashes_N[first_M], thumbs_N192[first_M]
    for a, b in _candidates(hashes):
        near = np.bitwise_count(hashes[a] ^ hashes[b]) <= MAX_BITS
        a, b = a[near], b[near]
        difference = np.abs(thumbs[a].astype(np.int16) - thumbs[b]).max(axis=1, initial=0)
        same = difference <= MAX_THUMB_DIFFERENCE
        yield from zip(first_M[a[same]].tolist(), first_M[b[same]].tolist(), strict=True)


def _distinct(
    hashes_N: NDArray[np.uint64], thumbs_N192: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(rows that are the first with their hash and thumb, ascending; per row, which of those it equals)."""
    seen: dict[bytes, int] = {}
    of = [
        seen.setdefault(digest.tobytes() + thumb.tobytes(), len(seen))
        for digest, thumb in zip(hashes_N, thumbs_N192, strict=True)
    ]
    of_N = np.array(of, np.int64)
    return np.unique(of_N, return_index=True)[1].astype(np.int64), of_N


def _candidates(hashes_N: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Arrays of pairs that agree in a band and in none before it.

    In a band's order they are neighbours at some distance.
    """
    bands = [(hashes_N >> np.uint64(16 * band)) & np.uint64(0xFFFF) for band in range(BANDS)]
    for band, values in enumerate(bands):
        order = np.argsort(values, kind="stable")
        ranked = values[order]
        for distance in range(1, len(order)):
            equal = np.flatnonzero(ranked[distance:] == ranked[:-distance])
            if not len(equal):
                break
            first, second = order[equal], order[equal + distance]
            new = np.ones(len(equal), np.bool_)
            for earlier in bands[:band]:
                new &= earlier[first] != earlier[second]
            yield np.minimum(first, second)[new], np.maximum(first, second)[new]
