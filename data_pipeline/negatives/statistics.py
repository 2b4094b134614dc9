"""`negatives/statistics.json`: what was mined, against chance, and what was left out and why."""

from collections import Counter

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike

from contract.record import NegText

BINS = 40
EDGES = [round(-1 + 2 * number / BINS, 2) for number in range(BINS + 1)]  # of cosines


class Pictures(Struct):
    """Neighbours of the pictures of one dataset and split. mined, random: pairs per bin of EDGES."""

    pictures: int
    absent: int  # without features, so without neighbours
    mined: list[int]
    random: list[int]
    passed: dict[str, int]  # neighbours that an option of `negatives.pictures` passed by


class Texts(Struct):
    """Neighbours and swaps of the texts of one dataset and split.

    filters: neighbours left out because of what they are, or passed by because of an option. drawn,
    drawn_true: random texts of the split, and how many of them are true of the picture: its group says
    the same, or the annotations verify it; how many more are true nobody knows. swaps: ends of the
    proposals by kind: kept, unknown, true. contradicted: texts that the annotations deny.
    """

    texts: int
    different: int
    near: int
    short: int  # texts with fewer neighbours than asked for
    mined: list[int]
    random: list[int]
    filters: dict[str, int]
    drawn: int
    drawn_true: int
    swaps: dict[str, dict[str, int]]
    contradicted: int
    given: int  # negatives that the dataset brings, in the records
    edits: int
    members: int  # pictures of the image sets, named as negatives of the edits


class Part(Struct):
    """One dataset and split."""

    dataset: str
    split: str
    pictures: Pictures
    texts: Texts


class NearExample(Struct):
    """kind: picture, text or member. text: id, "" = the whole picture."""

    kind: str
    key: str
    text: str
    content: str
    score: float


class Example(Struct):
    """One picture (text "") or text with its negatives."""

    dataset: str
    split: str
    key: str
    text: str
    role: str
    content: str
    near: list[NearExample]
    swapped: list[NegText] = []
    given: list[NegText] = []


class Statistics(Struct):
    """The whole file."""

    edges: list[float]
    parts: list[Part]
    examples: list[Example]


def histogram(scores: ArrayLike) -> list[int]:
    """Cosines per bin of EDGES; what rounding put outside counts as the end."""
    counted: list[int] = np.histogram(np.clip(scores, -1, 1), EDGES)[0].tolist()
    return counted


def by_kind(ends: Counter[str]) -> dict[str, dict[str, int]]:
    """{"side/kept": 3} → {"side": {"kept": 3}}, in order of name."""
    found: dict[str, dict[str, int]] = {}
    for name, count in sorted(ends.items()):
        kind, _, end = name.partition("/")
        if end:
            found.setdefault(kind, {})[end] = count
    return found
