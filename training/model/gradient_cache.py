"""Contrast over all parts of a step at the memory of one (GradCache, Gao et al. 2021).

First every part's vectors without gradient; then the loss over all of them, and its gradient at each vector;
then each part again with gradient, by a loss of which just that is the gradient. Equal to one large batch.
"""

from collections.abc import Mapping, Sequence

import torch
from msgspec import Struct
from torch import Tensor

from training.distributed import ALONE, World
from training.heads.itc import ItcHead
from training.model.gathering import Size, gather, rows
from training.objectives.contrast import Contrasted, Vectors
from training.objectives.outcome import Outcome


class Cached(Struct):
    """For one part: gradients at its vectors, and at the scale and the bias (of which every part carries its
    share), and what the part tells of the whole loss.
    """

    text: Tensor
    picture: Tensor
    scale: Tensor
    bias: Tensor | None
    told: Outcome

    def outcome(self, found: Contrasted) -> Outcome:
        """The value of the loss's share, with the cached gradient."""
        online = found.online
        surrogate = (
            (self.text * online.text).sum() + (self.picture * online.picture).sum() + self.scale * found.scale
        )
        if self.bias is not None:
            assert found.bias is not None
            surrogate = surrogate + self.bias * found.bias
        return Outcome((self.told.loss + surrogate - surrogate.detach(),), self.told.measures)


def cache(
    head: ItcHead, parts: Mapping[int, Contrasted], sizes: Sequence[Size], world: World = ALONE
) -> dict[int, Cached]:
    """What each of this process's parts needs, by its number in the step. sizes: of every part of the step.

    Every process computes the whole loss, and tells of it what its own parts are a share of: all shares sum
    up to the loss of the step, and their gradients to its gradient.
    """
    there = [number for number, size in enumerate(sizes) if size.pictures]
    if not there:
        return {}
    scale = head.scale().detach().requires_grad_()
    online = _gathered({number: part.online for number, part in parts.items()}, head, sizes, world)
    bias = None if head.bias is None else head.bias.detach().requires_grad_()
    leaves = [online.text.requires_grad_(), online.picture.requires_grad_(), scale]
    leaves += [] if bias is None else [bias]
    keys = online
    if head.options.momentum is not None:
        keys = _gathered({number: part.keys for number, part in parts.items()}, head, sizes, world)
    outcome = head.contrast(Contrasted(online, keys, scale, bias))
    text, picture, by_scale, *by_bias = torch.autograd.grad(outcome.loss, leaves)
    share, places = outcome.loss.detach() / len(there), rows(sizes)
    return {
        number: Cached(
            text[places[number].texts],
            picture[places[number].pictures],
            by_scale / len(there),
            by_bias[0] / len(there) if by_bias else None,
            Outcome((share,), outcome.measures if number == there[0] else {}),
        )
        for number in parts
    }


def _gathered(parts: Mapping[int, Vectors], head: ItcHead, sizes: Sequence[Size], world: World) -> Vectors:
    return gather(parts, sizes, head.options.width, head.scale().device, world)
