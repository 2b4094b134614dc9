"""Whose picture stands in for a text's own, and whose words, such that neither alone tells a wrong pair.

Legend: R texts, P pictures.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from training.evaluation.metrics.retrieval import Flags

GROUP = 8  # pictures that stand in for each other, whatever the batch
NOBODY = -1

Rows = NDArray[np.int64]


def whole_groups(batch: int) -> int:
    """Pictures to read at a time: as many as `batch` in whole groups, at least one."""
    return max(1, batch // GROUP) * GROUP


def next_texts(picture_R: Rows, may_be_true_RP: Flags) -> Rows:
    """[R] the row of another picture's text for each, NOBODY where there is none.

    picture_R: each text's picture, rising from 0; the first GROUP are a group, and so on. Texts go round in
    cycles, each with a text of a picture at most. So the true pairs, those of a text with the next one's
    picture and those of a picture with the next text all hold the same texts, and the same pictures, equally
    often: a score of the words alone, or of the picture alone, tells none from another. Of both wrong pairs
    none may be true.
    """
    next_R = np.full(len(picture_R), NOBODY)
    apart_RR = ~(may_be_true_RP[:, picture_R] | may_be_true_RP[:, picture_R].T)
    for turn in _turns(picture_R):
        for cycle in _cycles(turn, apart_RR):
            next_R[cycle] = cycle[1:] + cycle[:1]
    return next_R


def _turns(picture_R: Rows) -> Iterator[list[int]]:
    """The first texts of a group's pictures, their second ones, and so on."""
    number_R = np.arange(len(picture_R)) - np.searchsorted(picture_R, picture_R)
    turns: dict[tuple[int, int], list[int]] = {}
    for row, turn in enumerate(zip((picture_R // GROUP).tolist(), number_R.tolist(), strict=True)):
        turns.setdefault(turn, []).append(row)
    yield from turns.values()


def _cycles(rows: list[int], apart_RR: Flags) -> Iterator[list[int]]:
    """Rings of two or more of these rows in which neighbours are apart."""
    while rows:
        ring = rows[:1]
        for row in rows[1:]:
            if apart_RR[ring[-1], row]:
                ring.append(row)
        while len(ring) > 1 and not apart_RR[ring[-1], ring[0]]:
            ring.pop()
        rows = [row for row in rows if row not in ring]
        if len(ring) > 1:
            yield ring
