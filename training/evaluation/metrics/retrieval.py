"""Recall at K, with any number of positives per query, and what a random order would reach.

Legend: Q queries, G gallery, P pictures, T texts, U wordings, V vectors of the gallery, W width. Ranks count
from 0. A tie goes against the model, and so does a score that is not a number: whatever does not lie below
the best positive stands ahead of it.
"""

from collections.abc import Iterable

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Scores = NDArray[np.floating]
Flags = NDArray[np.bool_]
Counts = NDArray[np.int64]
BLOCK = 1024  # queries whose scores are held at a time


def ranks(scores_QG: Scores, positive_QG: Flags, candidate_QG: Flags | None = None) -> Counts:
    """[Q] how many of a query's candidates, positives apart, stand ahead of its best positive.

    candidate_QG: what competes; all by default. Every query needs a positive.
    """
    assert positive_QG.any(1).all(), "a query without a positive has no rank"
    best_Q = np.fmax.reduce(np.where(positive_QG, scores_QG, -np.inf), axis=1, initial=-np.inf)
    ahead_QG = ~(scores_QG < best_Q[:, None]) & ~positive_QG
    if candidate_QG is not None:
        ahead_QG &= candidate_QG
    return ahead_QG.sum(1)


def recalls(ranks_Q: Counts, ks: Iterable[int], name: str = "R") -> dict[str, float]:
    """`R@K`: the share of queries with a positive among the first K, in [0, 1]. At least one query."""
    return {f"{name}@{k}": float(np.mean(ranks_Q < k)) for k in ks}


def chance(right_Q: Counts, candidates_Q: Counts, ks: Iterable[int], name: str = "R") -> dict[str, float]:
    """`R@K` of a random order, of queries with that many right ones among that many candidates.

    1 − C(n−r, K) / C(n, K): none of the right ones is among the first K.
    """
    return {f"{name}@{k}": float(np.mean(1 - _missed(right_Q, candidates_Q, k))) for k in ks}


def _missed(right_Q: Counts, candidates_Q: Counts, k: int) -> NDArray[np.float64]:
    drawn = np.arange(k)
    left = np.maximum(candidates_Q[:, None] - drawn, 1)
    wrong = np.clip(candidates_Q[:, None] - right_Q[:, None] - drawn, 0, None)
    return np.prod(wrong / left, axis=1)


class Search(Struct):
    """Of each query [Q]: its rank, how many compete for it, and how many of these are right."""

    ranks: Counts
    candidates: Counts
    right: Counts


def search(
    query_QW: Scores, gallery_VW: Scores, vector_G: Counts, owner_Q: Counts, owner_G: Counts, group_P: Counts
) -> Search:
    """Vectors by their products. vector_G: which each of the gallery has: those of one vector have one score,
    to the bit. owners: the picture of each; right is what has the query's picture.

    group_P: copies of a picture share one, and do not compete with it. A block of queries at a time: the
    scores of a large split would not fit into memory.
    """
    blocks = [
        _block((query_QW[rows] @ gallery_VW.T)[:, vector_G], owner_Q[rows], owner_G, group_P)
        for rows in (slice(at, at + BLOCK) for at in range(0, len(query_QW), BLOCK))
    ]
    fields = ([getattr(block, name) for block in blocks] for name in Search.__struct_fields__)
    return Search(*(np.concatenate(parts) if parts else np.zeros(0, np.int64) for parts in fields))


def _block(scores_QG: Scores, owner_Q: Counts, owner_G: Counts, group_P: Counts) -> Search:
    right_QG = owner_Q[:, None] == owner_G
    candidate_QG = right_QG | (group_P[owner_Q][:, None] != group_P[owner_G])
    return Search(ranks(scores_QG, right_QG, candidate_QG), candidate_QG.sum(1), right_QG.sum(1))


def both_ways(
    text_TW: Scores, picture_PW: Scores, text_picture_T: Counts, words_T: Counts, group_P: Counts
) -> dict[str, Search]:
    """`text_to_picture` and `picture_to_text`; any text of a picture is right for it.

    text_picture_T: each text's picture. A picture without a text is gallery for the texts, and no query.
    words_T: equal for equal words, which take the vector of the first of them: two that were encoded apart
    differ by rounding, and so would their scores.
    """
    _, first_U, wording_T = np.unique(words_T, return_index=True, return_inverse=True)
    text_UW = text_TW[first_U]
    every_P, asks_P = np.arange(len(picture_PW)), np.unique(text_picture_T)
    return {
        "text_to_picture": search(text_UW[wording_T], picture_PW, every_P, text_picture_T, every_P, group_P),
        "picture_to_text": search(picture_PW[asks_P], text_UW, wording_T, asks_P, text_picture_T, group_P),
    }
