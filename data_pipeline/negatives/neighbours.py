"""Nearest neighbours by cosine: exact, the same on any number of threads.

Legend: N vectors, D channels, Q queries, K neighbours wanted, C candidates.

A matrix product in float32 is fast, but its last bits depend on how the work is split. So FAISS only
proposes: everything within the rounding error of the K-th score is a candidate, and candidates are
ranked by float64 sums taken in a fixed order. A query whose proposals may not reach far enough (ties, a
large group) is compared with every vector.
"""

from typing import NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]
Scores = NDArray[np.float64]
QUERIES = 8192  # of one call
BLOCK = 256  # queries compared with every vector at once, or ranked at once; vectors in float64 at once
SPARE = 8  # proposals beyond those wanted
GROUP = 64  # members of a group that are proposed in vain before every vector is asked
NONE = -1  # in place of a row where there are fewer neighbours than wanted


class Found(NamedTuple):
    """[Q,K] rows, nearest first, NONE where there are no more, and their cosines (0 there)."""

    rows: Rows
    cosines: Scores


def normalised(vectors_ND: Vectors) -> Vectors:
    """Rows of length 1; a zero row stays zero."""
    unit_ND = np.empty(vectors_ND.shape, np.float32)
    for start in range(0, len(vectors_ND), BLOCK):
        part_BD = vectors_ND[start : start + BLOCK].astype(np.float64)
        lengths_B1 = np.sqrt(np.square(part_BD).sum(1, keepdims=True))
        unit_ND[start : start + BLOCK] = part_BD / np.where(lengths_B1 > 0, lengths_B1, 1)
    return unit_ND


def nearest(vectors_ND: Vectors, groups_N: Rows, wanted: int, queries_Q: Rows | None = None) -> Found:
    """The nearest others of each query, equal cosines in the order of the rows.

    vectors: of length 1. groups: rows of one group are never each other's neighbours. queries: rows that
    ask, ascending; all of them unless said.
    """
    queries_Q = np.arange(len(vectors_ND)) if queries_Q is None else queries_Q
    found = nothing(len(queries_Q), wanted)
    reach = min(len(vectors_ND), wanted + SPARE + _largest(groups_N))
    for start in range(0, len(queries_Q), QUERIES):
        part = slice(start, start + QUERIES)
        _search(vectors_ND, groups_N, queries_Q[part], reach, Found(found.rows[part], found.cosines[part]))
    return found


def nothing(queries: int, wanted: int) -> Found:
    """Room for what will be found."""
    return Found(np.full((queries, wanted), NONE, np.int64), np.zeros((queries, wanted)))


def _largest(groups_N: Rows) -> int:
    sizes = np.unique(groups_N, return_counts=True)[1]
    return min(GROUP, int(sizes.max(initial=1)))


def _search(vectors_ND: Vectors, groups_N: Rows, queries_Q: Rows, reach: int, into: Found) -> None:
    scores_QC, rows_QC = faiss.knn(
        vectors_ND[queries_Q], vectors_ND, reach, metric=faiss.METRIC_INNER_PRODUCT
    )
    allowed_QC = groups_N[rows_QC] != groups_N[queries_Q, None]
    enough_Q = _reaches(scores_QC, allowed_QC, into.rows.shape[1], vectors_ND.shape)
    for start in range(0, len(queries_Q), BLOCK):
        block = start + np.flatnonzero(enough_Q[start : start + BLOCK])
        rank(vectors_ND, queries_Q[block], rows_QC[block], allowed_QC[block], into, block)
    _compare_all(vectors_ND, groups_N, queries_Q, np.flatnonzero(~enough_Q), into)


def _slack(width: int) -> float:
    """How far two float32 scores may lie apart that are equal: each is a sum of `width` products."""
    return 2 * width * float(np.finfo(np.float32).eps)


def _reaches(
    scores_QC: Vectors, allowed_QC: NDArray[np.bool_], wanted: int, shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Whether a query's proposals hold all of its neighbours: none left out can be as near as the last."""
    count, width = shape
    if scores_QC.shape[1] == count:
        return np.ones(len(scores_QC), np.bool_)
    kept_QC = np.where(allowed_QC, scores_QC, -np.inf)
    last_Q = -np.partition(-kept_QC, wanted - 1)[:, wanted - 1]
    reaches: NDArray[np.bool_] = last_Q - _slack(width) > scores_QC[:, -1]
    return reaches


def rank(
    vectors_ND: Vectors,
    queries_Q: Rows,
    rows_QC: Rows,
    allowed_QC: NDArray[np.bool_],
    into: Found,
    at_Q: Rows,
) -> None:
    """Write the best of each query's candidates `into` the rows `at`."""
    near_QCD = vectors_ND[rows_QC].astype(np.float64)
    cosines_QC = np.vecdot(near_QCD, vectors_ND[queries_Q, None].astype(np.float64))
    cosines_QC[~allowed_QC] = -np.inf
    order_QC = np.lexsort((rows_QC, -cosines_QC))[:, : into.rows.shape[1]]
    best_QK = np.take_along_axis(cosines_QC, order_QC, 1)
    there_QK = best_QK > -np.inf
    count = order_QC.shape[1]
    into.rows[at_Q, :count] = np.where(there_QK, np.take_along_axis(rows_QC, order_QC, 1), NONE)
    into.cosines[at_Q, :count] = np.where(there_QK, best_QK, 0)


def _compare_all(vectors_ND: Vectors, groups_N: Rows, queries_Q: Rows, at_A: Rows, into: Found) -> None:
    """The same for the queries at `at`, with every vector a proposal."""
    for start in range(0, len(at_A), BLOCK):
        block = at_A[start : start + BLOCK]
        asked = queries_Q[block]
        scores_BN = vectors_ND[asked] @ vectors_ND.T
        scores_BN[groups_N[asked, None] == groups_N] = -np.inf
        for query, at, scores_N in zip(asked, block, scores_BN, strict=True):
            rows_C = _candidates(scores_N, into.rows.shape[1], vectors_ND.shape[1])
            allowed = np.ones((1, len(rows_C)), np.bool_)
            rank(vectors_ND, query[None], rows_C[None], allowed, into, at[None])


def _candidates(scores_N: Vectors, wanted: int, width: int) -> Rows:
    """Rows that may be among the best."""
    allowed_N = scores_N > -np.inf
    if wanted >= len(scores_N):
        return np.flatnonzero(allowed_N)
    limit = float(np.partition(scores_N, -wanted)[-wanted]) - _slack(width)
    return np.flatnonzero(allowed_N & (scores_N >= limit))
