"""AdamW and its learning rate over the whole run."""

import math

import torch
from torch import nn

from training.config import Optim


def build(model: nn.Module, settings: Optim) -> torch.optim.AdamW:
    """AdamW; weight decay on matrices only, not on biases, norms, embeddings of places or scales."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98), eps=1e-8)


def learning_rate(step: int, steps: int, peak: float, warmup: float) -> float:
    """Linear over the first `warmup` share of all steps, then half a cosine down to zero."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return peak * (step + 1) / rising
    through = (step - rising) / max(1, steps - rising)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, through)))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """The same rate for every group."""
    for group in optimizer.param_groups:
        group["lr"] = value
