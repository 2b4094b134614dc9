"""How hard each task pulls at what they share: the norm of its loss's gradient on the trunk."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class TaskGradients:
    """Each task's gradient, summed over the parts of a step. Costs a backward pass a task and part."""

    def __init__(self, trunk: nn.Module) -> None:
        self.parameters = [parameter for parameter in trunk.parameters() if parameter.requires_grad]
        self.sums: dict[str, list[Tensor]] = {}

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """The losses of a part, weighed as they are summed up; their graph is kept."""
        for task, loss in losses.items():
            if not loss.requires_grad:
                continue
            found = torch.autograd.grad(loss, self.parameters, retain_graph=True, allow_unused=True)
            parts = [
                torch.zeros_like(p) if g is None else g for p, g in zip(self.parameters, found, strict=True)
            ]
            before = self.sums.get(task)
            self.sums[task] = parts if before is None else [a + b for a, b in zip(before, parts, strict=True)]

    def norms(self) -> dict[str, float]:
        """Task → the norm over all parameters of the trunk."""
        return {task: float(nn.utils.get_total_norm(parts)) for task, parts in self.sums.items()}
