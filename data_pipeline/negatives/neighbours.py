"""Exact nearest neighbours by cosine, the same on any number of threads.

Legend: N pictures, D channels, K neighbours wanted, B rows of a block, C candidates of one picture.

A matrix product in float32 is fast, but its last bits depend on how a BLAS splits the work. So it only
proposes: everything within its rounding error of the K-th score is a candidate, and candidates are
ranked by float64 sums taken in a fixed order.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
BLOCK = 256


def normalised(vectors_ND: Vectors) -> Vectors:
    """Rows of length 1; a zero row stays zero."""
    lengths = np.sqrt(np.square(vectors_ND, dtype=np.float64).sum(1, keepdims=True))
    return (vectors_ND / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def nearest(
    vectors_ND: Vectors, groups_N: NDArray[np.int64], wanted: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """For each row in turn: rows of its nearest others, nearest first, and their cosines.

    vectors: of length 1. groups: rows of one group are never each other's neighbours. At most `wanted`
    come back, fewer where there are no more; equal cosines keep the order of the rows.
    """
    for start in range(0, len(vectors_ND), BLOCK):
        block = slice(start, start + BLOCK)
        scores_BN = vectors_ND[block] @ vectors_ND.T
        scores_BN[groups_N[block, None] == groups_N[None, :]] = -np.inf
        for query, scores_N in zip(vectors_ND[block], scores_BN, strict=True):
            yield _ranked(query, vectors_ND, _candidates(scores_N, wanted, vectors_ND.shape[1]), wanted)


def _candidates(scores_N: NDArray[np.float32], wanted: int, width: int) -> NDArray[np.int64]:
    """Rows that may be among the best: a float32 sum of `width` products errs by less than the slack."""
    allowed_N = scores_N > -np.inf
    if wanted >= len(scores_N):
        return np.flatnonzero(allowed_N)
    slack = 2 * width * float(np.finfo(np.float32).eps)
    limit = float(np.partition(scores_N, -wanted)[-wanted]) - slack
    return np.flatnonzero(allowed_N & (scores_N >= limit))


def _ranked(
    query_D: Vectors, vectors_ND: Vectors, rows_C: NDArray[np.int64], wanted: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    cosines = (vectors_ND[rows_C].astype(np.float64) * query_D).sum(1)
    best = np.argsort(-cosines, kind="stable")[:wanted]
    return rows_C[best], cosines[best]
