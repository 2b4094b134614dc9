"""Does a text belong to a picture, and which of several candidates is the one meant?

Legend: Q questions, C candidates, S phrases, R boxes. As in `retrieval`, ties and scores that are
not numbers count against the model.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from training.evaluation.metrics.retrieval import Flags, Scores, ranks


class Choice(Struct, frozen=True):
    """[Q] of each question: was the right candidate strictly first, and how often would a blind guess be?"""

    right: Flags
    chance: NDArray[np.float64]


def summary(choices: Sequence[Choice]) -> dict[str, float | int | None]:
    """Accuracy and chance over all questions of some batches, in [0, 1]; null over none."""
    right = np.concatenate([choice.right for choice in choices]) if choices else np.zeros(0)
    chance = np.concatenate([choice.chance for choice in choices]) if choices else np.zeros(0)
    return {"accuracy": _mean(right), "chance": _mean(chance), "questions": len(right)}


def one_of_n(scores_QC: Scores, candidate_QC: Flags) -> Choice:
    """The positive, in column 0, against its own negatives: FG-OVD's 1 of 11 (Bianchi et al., CVPR 2024).

    candidate_QC: which there are, as rows have fewer. A row without a negative asks nothing: left out.
    """
    asks_Q = candidate_QC[:, 1:].any(1)
    positive_QC = np.zeros_like(candidate_QC)
    positive_QC[:, 0] = True
    return _choose(scores_QC[asks_Q], positive_QC[asks_Q], candidate_QC[asks_Q])


def entity_object(scores_SR: Scores, linked_SR: Flags, candidate_SR: Flags) -> Choice:
    """Which of its candidates a phrase names; any box that it is linked to is right.

    candidate_SR: boxes of its own picture, none that may be right as well. A phrase without a link has no
    truth: left out.
    """
    asks_S = linked_SR.any(1)
    return _choose(scores_SR[asks_S], linked_SR[asks_S], candidate_SR[asks_S])


def itm(matched: Scores, wrong_picture: Scores, wrong_text: Scores) -> dict[str, float | None]:
    """Per side, in [0, 1]: matched pairs against those whose picture, or whose text, was replaced.

    Scores are the log-odds of a match; above 0 is a yes. A side's accuracy is the mean of the share of yes
    over the matched and of no over its negatives, so that no fixed answer beats 0.5. Null without pairs.
    """
    sides = {"picture": wrong_picture, "text": wrong_text}
    accuracies = {f"{side}_accuracy": _accuracy(matched, wrong) for side, wrong in sides.items()}
    return {**accuracies, **{f"{side}_auc": auc(matched, wrong) for side, wrong in sides.items()}}


def auc(positive: Scores, negative: Scores) -> float | None:
    """Area under the ROC curve, as Mann and Whitney: how often a positive outscores a negative, ties half."""
    if not (len(positive) and len(negative)):
        return None
    above = np.nan_to_num(positive, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    below = np.sort(np.nan_to_num(negative, nan=np.inf, posinf=np.inf, neginf=-np.inf))
    won, not_lost = (np.searchsorted(below, above, side).sum() for side in ("left", "right"))
    return float(won + not_lost) / (2 * len(above) * len(below))


def _accuracy(matched: Scores, wrong: Scores) -> float | None:
    yes, no = _mean(matched > 0), _mean(wrong <= 0)
    return None if yes is None or no is None else (yes + no) / 2


def _choose(scores_QC: Scores, positive_QC: Flags, candidate_QC: Flags) -> Choice:
    right_Q = ranks(scores_QC, positive_QC, candidate_QC) == 0
    return Choice(right_Q, positive_QC.sum(1) / candidate_QC.sum(1))


def _mean(values: NDArray[np.generic]) -> float | None:
    return float(values.mean()) if len(values) else None
