"""AdamW, with a learning rate of their own for the parts of the model that ask for it."""

from collections.abc import Mapping

import torch
from torch import nn

from contract.errors import unknown_name
from training.config import Optim

DECAYED = (nn.Linear, nn.Embedding)


def build(model: nn.Module, settings: Optim) -> torch.optim.AdamW:
    """AdamW; weight decay on the weights of linear layers and on tables of words (in a pretrained encoder of
    places too), not on biases, norms, scales, or the trunk's places and the heads' queries and prompts.

    fused: in one pass over the weights, which on a CPU takes a tenth of the time.
    """
    decayed = {id(module.weight) for module in model.modules() if isinstance(module, DECAYED)}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in _trained(model).items():
        decay = settings.weight_decay if id(parameter) in decayed else 0.0
        groups.setdefault((factor(name, settings.groups), decay), []).append(parameter)
    described = [
        {"params": found, "factor": rate, "weight_decay": decay} for (rate, decay), found in groups.items()
    ]
    return torch.optim.AdamW(described, lr=settings.learning_rate, betas=(0.9, 0.98), eps=1e-8, fused=True)


def factor(name: str, groups: Mapping[str, float]) -> float:
    """Of a parameter's learning rate: that of the longest prefix of its name, by whole parts, else 1."""
    fitting = [prefix for prefix in groups if f"{name}.".startswith(f"{prefix}.")]
    return groups[max(fitting, key=len)] if fitting else 1.0


def check_groups(model: nn.Module, groups: Mapping[str, float]) -> None:
    """The error for a prefix that no trained parameter has lists the model's parts."""
    names = list(_trained(model))
    parts = sorted({".".join(name.split(".")[:2]) for name in names})
    for prefix in groups:
        if not any(f"{name}.".startswith(f"{prefix}.") for name in names):
            raise unknown_name("train.optim.groups", "part that is trained", prefix, parts)


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """The rate of every group, by its factor."""
    for group in optimizer.param_groups:
        group["lr"] = value * group["factor"]


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
