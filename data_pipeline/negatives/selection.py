"""Ranks, scores and chance: which of the neighbours may become negatives, and in which order.

Legend: Q queries, K neighbours of each, nearest first.
"""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from contract.params import Ranks
from data_pipeline.negatives.neighbours import Rows, Scores

Mask = NDArray[np.bool_]


def order(
    scores_QK: Scores,
    allowed_QK: Mask,
    settings: Ranks,
    random: np.random.Generator,
    weight_QK: Scores | None = None,
) -> tuple[Rows, Rows, Counter[str]]:
    """([Q,K] columns, those that may be taken first; [Q] how many these are; how many each option passed by).

    allowed: what is there, and is not known to be no negative. Among equals of one query the nearest comes
    first, or, with sampling_strategy "random", any; with "balanced" any, by these weights.
    """
    rank_QK = allowed_QK.cumsum(1) - 1
    in_range_QK = (rank_QK >= settings.range_min) & (rank_QK < settings.range_max)
    passed = {
        "range": ~in_range_QK,
        "min_score": _beyond(scores_QK, settings.min_score, -1),
        "max_score": _beyond(scores_QK, settings.max_score, 1),
    }
    left_QK, counts = allowed_QK, Counter[str]()
    for name, out_QK in passed.items():
        counts[name] += int((left_QK & out_QK).sum())
        left_QK = left_QK & ~out_QK
    if settings.sampling_strategy == "balanced":
        assert weight_QK is not None
        place_QK = random.exponential(size=scores_QK.shape) / weight_QK  # the earliest, by its rate
    elif settings.sampling_strategy == "random":
        place_QK = random.random(scores_QK.shape)
    else:
        place_QK = np.broadcast_to(np.arange(scores_QK.shape[1], dtype=np.float64), scores_QK.shape)
    columns_QK = np.argsort(np.where(left_QK, place_QK, np.inf), axis=1, kind="stable")
    return columns_QK, left_QK.sum(1), counts


def _beyond(scores_QK: Scores, limit: float | None, side: int) -> Mask:
    if limit is None:
        return np.zeros(scores_QK.shape, np.bool_)
    beyond: Mask = side * scores_QK > side * limit
    return beyond
