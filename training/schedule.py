"""Settings that change while a run goes on."""


def value_at(first: float, last: float | None, progress: float) -> float:
    """A value when `progress` in [0, 1] of training is done: fixed, or on the line from first to last."""
    return first if last is None else first + (last - first) * min(max(progress, 0.0), 1.0)
