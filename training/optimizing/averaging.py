"""A running mean of the trained weights (EMA), which is then what is scored.

It lies in the optimizer's state beside the moments of AdamW, and is stored, restored and moved with them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

AVERAGE = "average"  # the key in the optimizer's state of a parameter


def decay_at(decay: float, step: int) -> float:
    """Of the optimizer step of this number: the mean of a short run must not be of its random start."""
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def follow(optimizer: torch.optim.Optimizer, decay: float, step: int) -> None:
    """θ̄ ← d·θ̄ + (1−d)·θ, after the optimizer step of this number."""
    for parameter, state in optimizer.state.items():
        if AVERAGE not in state:
            state[AVERAGE] = parameter.detach().clone()
    averages = [state[AVERAGE] for state in optimizer.state.values()]
    if not averages:  # no weight has had a gradient: nothing of the first step could be read
        return
    torch._foreach_lerp_(averages, list(optimizer.state), 1 - decay_at(decay, step))


@contextmanager
def averaged(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """The means in the place of the weights; the weights themselves where nothing is averaged."""
    kept: list[tuple[Tensor, Tensor]] = []
    for parameter, state in optimizer.state.items():
        if AVERAGE in state:
            kept.append((parameter, parameter.data))
            parameter.data = state[AVERAGE]
    try:
        yield
    finally:
        for parameter, weights in kept:
            parameter.data = weights
