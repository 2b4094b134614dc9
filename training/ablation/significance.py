"""How far two means over seeds must lie apart before more than the seeds can have made the difference."""

from collections.abc import Sequence
from math import atan, cos, pi, sin, sqrt
from statistics import variance

LEVEL = 0.05  # of all comparisons together, how often one that is none may be called a difference


def least_difference(rows: Sequence[Sequence[float]], level: float = LEVEL) -> float:
    """The least difference from the first row's mean that is one. rows: scores by seed, at least two of each.

    Student's t over a variance that the rows share; the comparisons share the level (Bonferroni). 0 where no
    row's scores differ.
    """
    freedom = sum(len(row) - 1 for row in rows)
    shared = sum(variance(row) * (len(row) - 1) for row in rows) / freedom
    fewest = min(len(row) for row in rows)
    return t_quantile(level / max(1, len(rows) - 1), freedom) * sqrt(2 * shared / fewest)


def t_quantile(p: float, freedom: int) -> float:
    """The t that |T| exceeds with probability p in (0, 1), of Student's T with so many degrees of freedom."""
    low, high = 0.0, 1.0
    while exceeds(high, freedom) > p:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if exceeds(middle, freedom) > p else (low, middle)
    return high


def exceeds(t: float, freedom: int) -> float:
    """P(|T| > t), t ≥ 0: the finite series of Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    angle = atan(t / sqrt(freedom))
    odd = freedom % 2
    term = cos(angle) if odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= cos(angle) ** 2 * (k - 1) / k
        total += term
    within = 2 / pi * (angle + sin(angle) * total) if odd else sin(angle) * total
    return 1 - within
