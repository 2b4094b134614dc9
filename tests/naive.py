"""Contrasts as a reader of the papers would write them: one number at a time, in double precision."""

import math


def naive_row(scores, target, ignored) -> float | None:
    """−Σ target log softmax over the columns that are not ignored, one exp at a time."""
    if not sum(target):
        return None
    kept = [t > 0 or not skip for t, skip in zip(target, ignored, strict=True)]
    total = sum(math.exp(s) for s, keep in zip(scores, kept, strict=True) if keep)
    return -sum(t * (s - math.log(total)) for s, t, k in zip(scores, target, kept, strict=True) if k and t)


def naive_mean(rows: list[float | None]) -> float:
    there = [row for row in rows if row is not None]
    return sum(there) / len(there) if there else 0.0


def naive_contrast(scores, positive, ignored) -> float:
    targets = [[float(p) / max(1, sum(row)) for p in row] for row in positive.tolist()]
    return naive_mean(
        [naive_row(*row) for row in zip(scores.tolist(), targets, ignored.tolist(), strict=True)]
    )
