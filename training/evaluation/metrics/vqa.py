"""Exact-match accuracy of answers, in all and per question type, as GQA scores them.

Legend: T questions.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from msgspec import Struct


class Answered(Struct):
    """Parallel lists over questions. predicted: one list of answers per model, by its name.

    unanswered: ids of the questions of pictures that an encoder could not take; withheld: (id, what the run
    answered) of questions whose true answer is not told. Both are in no other list.
    """

    ids: list[str]
    types: list[str]
    answers: list[str]
    predicted: dict[str, list[str]]
    unanswered: list[str] = []
    withheld: list[tuple[str, str]] = []


def majority(answers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """(type, answer) pairs → the most frequent answer of each type, ties by the alphabet."""
    counts: dict[str, Counter[str]] = {}
    for kind, answer in answers:
        counts.setdefault(kind, Counter())[answer] += 1
    return {kind: min(c, key=lambda answer: (-c[answer], answer)) for kind, c in counts.items()}


def accuracies(answered: Answered) -> dict[str, float | None]:
    """Share of exact matches of each model, over all questions; null over none."""
    return {name: _share(predicted, answered.answers) for name, predicted in answered.predicted.items()}


def by_type(answered: Answered) -> dict[str, dict[str, float | None]]:
    """Per question type: the number of questions and each model's accuracy."""
    kinds = np.array(answered.types)
    result: dict[str, dict[str, float | None]] = {}
    for kind in sorted(set(answered.types)):
        rows = np.flatnonzero(kinds == kind)
        truth = [answered.answers[row] for row in rows]
        shares = {name: _share([p[row] for row in rows], truth) for name, p in answered.predicted.items()}
        result[kind] = {"questions": len(rows), **shares}
    return result


def _share(predicted: Sequence[str], truth: Sequence[str]) -> float | None:
    """In [0, 1], 4 decimals."""
    hits = sum(p == t for p, t in zip(predicted, truth, strict=True))
    return round(hits / len(truth), 4) if truth else None
