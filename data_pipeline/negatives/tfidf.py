"""Texts as vectors: TF-IDF of words and pairs of neighbouring words, hashed twice.

Legend: N texts, F (text, feature) pairs, D channels.

Features are counted in 2^20 buckets. Bucket b of weight w then adds ±w to one of the D channels, by a
hash of b: products of such sketches are products of the full vectors, on average (Weinberger et al.,
2009, "Feature hashing for large scale multitask learning"), and they fit where picture vectors do.
"""

from collections.abc import Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

from data_pipeline.negatives.neighbours import Vectors, normalised
from data_pipeline.negatives.wording import words

BUCKETS = 1 << 20
BLOCK = 4096  # texts sketched at once
PAIR = np.uint64(0x9E3779B97F4A7C15)  # odd, so multiplying by it loses nothing
Hashes = NDArray[np.uint64]


def vectors(texts: Sequence[str], dimensions: int) -> Vectors:
    """[N,D] of length 1; equal words in equal order give equal vectors, a text without words is zero.

    dimensions: a power of two.
    """
    rows_F, buckets_F, counts_F = _features(texts)
    frequency = np.bincount(buckets_F, minlength=BUCKETS)
    rarity = np.log((1 + len(texts)) / (1 + frequency)) + 1
    weights_F = (1 + np.log(counts_F)) * rarity[buckets_F]
    return normalised(_sketch(rows_F, buckets_F, weights_F, len(texts), dimensions))


def _features(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(text, bucket, times) of every feature, by text, then bucket."""
    parts = [_block(texts[start : start + BLOCK], start) for start in range(0, len(texts), BLOCK)]
    nothing = np.zeros(0, np.int64)
    found = [np.concatenate([nothing, *column]) for column in zip(*parts, strict=True)] if parts else []
    return (found[0], found[1], found[2]) if found else (nothing, nothing, nothing)


def _block(texts: Sequence[str], first: int) -> tuple[NDArray[np.int64], ...]:
    known: dict[str, int] = {}
    split = [words(text) for text in texts]
    hashes = np.array([_hash(word, known) for text in split for word in text], np.uint64)
    rows = np.repeat(np.arange(len(texts)), [len(text) for text in split])
    beside = rows[1:] == rows[:-1]
    pairs = _mix(hashes[:-1] * PAIR + hashes[1:])[beside]
    buckets = np.concatenate([hashes, pairs]) % np.uint64(BUCKETS)
    place = np.concatenate([rows, rows[1:][beside]]) * BUCKETS + buckets.astype(np.int64)
    seen, counts = np.unique(place, return_counts=True)
    return first + seen // BUCKETS, seen % BUCKETS, counts.astype(np.int64)


def _hash(word: str, known: dict[str, int]) -> int:
    if word not in known:
        known[word] = xxhash.xxh3_64_intdigest(word.encode())
    return known[word]


def _mix(hashes: Hashes) -> Hashes:
    """Every bit depends on every other (the finaliser of splitmix64)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


def _sketch(
    rows_F: NDArray[np.int64],
    buckets_F: NDArray[np.int64],
    weights_F: NDArray[np.float64],
    texts: int,
    dimensions: int,
) -> Vectors:
    hashes = _mix(np.arange(BUCKETS, dtype=np.uint64))
    channel = (hashes % np.uint64(dimensions)).astype(np.int64)
    sign = np.where(hashes >> np.uint64(63), 1.0, -1.0)
    sketch_ND = np.empty((texts, dimensions), np.float32)
    edges = np.searchsorted(rows_F, np.arange(0, texts + BLOCK, BLOCK))
    for number, (start, end) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        first = number * BLOCK
        count = min(BLOCK, texts - first)
        place = (rows_F[start:end] - first) * dimensions + channel[buckets_F[start:end]]
        sums = np.bincount(place, weights_F[start:end] * sign[buckets_F[start:end]], count * dimensions)
        sketch_ND[first : first + count] = sums[: count * dimensions].reshape(count, dimensions)
    return sketch_ND
