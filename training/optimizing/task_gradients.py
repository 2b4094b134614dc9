"""How hard each task pulls at what they share: the norm of its loss's gradient on the trunk."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from training.distributed import World
from training.optimizing.gradient_sum import summed


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

    def norms(self, tasks: Sequence[str], world: World) -> dict[str, float]:
        """Task → the norm over all parameters of the trunk, of what all processes have."""
        nothing = [None] * len(self.parameters)
        found = {task: summed(self.sums.get(task, nothing), self.parameters, world) for task in tasks}
        there = {task: [part for part in parts if part is not None] for task, parts in found.items()}
        return {task: float(nn.utils.get_total_norm(parts)) for task, parts in there.items() if parts}
