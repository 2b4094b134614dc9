"""The learning rate over the whole run."""

import math
from collections.abc import Callable

from training.config import Optim

ONE_CYCLE_START = 25.0  # the peak over where it starts, and
ONE_CYCLE_END = 1e4  # that over where it ends: the defaults of torch's OneCycleLR


def learning_rate(step: int, steps: int, optim: Optim) -> float:
    """Of the optimizer step of this number, before any group's factor."""
    return SCHEDULES[optim.schedule](step, steps, optim.learning_rate, optim.warmup)


def constant(step: int, steps: int, peak: float, warmup: float) -> float:
    """Linear over the first `warmup` share of all steps, then the peak."""
    rising = max(1, round(warmup * steps))
    return peak * (step + 1) / rising if step < rising else peak


def cosine(step: int, steps: int, peak: float, warmup: float) -> float:
    """Linear over the first `warmup` share of all steps, then half a cosine down to zero."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return peak * (step + 1) / rising
    return _half_cosine(peak, 0.0, (step - rising) / max(1, steps - rising))


def one_cycle(step: int, steps: int, peak: float, warmup: float) -> float:
    """Half a cosine up, then half a cosine down (Smith and Topin 2018; torch's OneCycleLR, as in SPRC)."""
    start, top = peak / ONE_CYCLE_START, max(0.0, warmup * steps - 1)
    if step < top:
        return _half_cosine(start, peak, step / top)
    return _half_cosine(peak, start / ONE_CYCLE_END, (step - top) / max(1.0, steps - 1 - top))


def _half_cosine(first: float, last: float, through: float) -> float:
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * min(1.0, through)))


SCHEDULES: dict[str, Callable[[int, int, float, float], float]] = {
    "cosine": cosine,
    "one_cycle": one_cycle,
    "constant": constant,
}
