"""Gradients added up over the processes of a run, all in one message."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.distributed import World


def add_gradients(model: nn.Module, world: World) -> None:
    """Each parameter's gradient becomes the sum over all processes."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    found = summed([parameter.grad for parameter in trained], trained, world)
    for parameter, gradient in zip(trained, found, strict=True):
        parameter.grad = gradient


def summed(gradients: Sequence[Tensor | None], of: Sequence[Tensor], world: World) -> list[Tensor | None]:
    """The sum of each over all processes, in the shapes of `of`; None only where no process has one.

    So a parameter that a step leaves alone is left alone by the optimizer, in a world of any size.
    """
    if world.size == 1:
        return list(gradients)
    filled = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, of, strict=True)]
    there = of[0].new_tensor([gradient is not None for gradient in gradients])
    flat = torch.cat([*(gradient.flatten() for gradient in filled), there])
    world.add(flat)
    *sums, counts = flat.split([p.numel() for p in of] + [len(of)])
    told = zip(sums, counts.tolist(), of, strict=True)
    return [total.view_as(p) if count else None for total, count, p in told]
