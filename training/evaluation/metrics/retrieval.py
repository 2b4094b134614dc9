"""Recall at K from a matrix of similarities, both ways, with any number of positives per query.

Legend: Q queries, G gallery, P pictures, T texts. Ranks count from 0. A tie goes against the model, and so
does a score that is not a number: whatever does not lie below the best positive stands ahead of it.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating]
Flags = NDArray[np.bool_]
KS = (1, 5, 10)


def ranks(scores_QG: Scores, positive_QG: Flags, candidate_QG: Flags | None = None) -> NDArray[np.int64]:
    """[Q] how many of a query's candidates, positives apart, stand ahead of its best positive.

    candidate_QG: what competes; all by default. Every query needs a positive.
    """
    assert positive_QG.any(1).all(), "a query without a positive has no rank"
    best_Q = np.fmax.reduce(np.where(positive_QG, scores_QG, -np.inf), axis=1)
    ahead_QG = ~(scores_QG < best_Q[:, None]) & ~positive_QG
    if candidate_QG is not None:
        ahead_QG &= candidate_QG
    return ahead_QG.sum(1)


def recalls(ranks_Q: NDArray[np.int64], ks: Iterable[int], name: str = "R") -> dict[str, float]:
    """`R@K`: the share of queries with a positive among the first K, in [0, 1]. At least one query."""
    return {f"{name}@{k}": float(np.mean(ranks_Q < k)) for k in ks}


def both_ways(
    scores_PT: Scores, text_picture_T: NDArray[np.int64], ks: Iterable[int] = KS
) -> dict[str, dict[str, float]]:
    """Recalls of `text_to_picture` and `picture_to_text`; any text of a picture is right for it.

    text_picture_T: each text's picture. A picture without a text is gallery for the texts, and no query.
    """
    ks = tuple(ks)
    own_PT = np.arange(len(scores_PT))[:, None] == text_picture_T
    asks_P = own_PT.any(1)
    return {
        "text_to_picture": recalls(ranks(scores_PT.T, own_PT.T), ks),
        "picture_to_text": recalls(ranks(scores_PT[asks_P], own_PT[asks_P]), ks),
    }
