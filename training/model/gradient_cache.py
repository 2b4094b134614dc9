"""Contrast over all parts of a step at the memory of one (GradCache, Gao et al. 2021).

First every part's vectors without gradient; then the loss over all of them, and its gradient at each vector;
then each part again with gradient, by a loss of which just that is the gradient. Equal to one large batch.
"""

from collections.abc import Iterable

import torch
from msgspec import Struct
from torch import Tensor

from training.heads.itc import ItcHead
from training.objectives.contrast import Contrasted, Vectors, join
from training.objectives.outcome import Outcome


class Cached(Struct):
    """For one part: gradients at its vectors and at the scale (of which every part carries its share), and
    what the part tells of the whole loss.
    """

    text: Tensor
    picture: Tensor
    scale: Tensor
    told: Outcome

    def outcome(self, found: Contrasted) -> Outcome:
        """The value of the loss's share, with the cached gradient."""
        online = found.online
        surrogate = (
            (self.text * online.text).sum() + (self.picture * online.picture).sum() + self.scale * found.scale
        )
        return Outcome(self.told.loss + surrogate - surrogate.detach(), self.told.measures)


def cache(head: ItcHead, parts: Iterable[Contrasted]) -> list[Cached]:
    """What each part of a step needs. The shares of all parts sum up to the loss of the whole step."""
    found = list(parts)
    keys = gather(join([part.keys for part in found]))
    online = gather(join([part.online for part in found]))
    scale = found[0].scale.detach().requires_grad_()
    leaves = (online.text.requires_grad_(), online.picture.requires_grad_(), scale)
    same = found[0].keys is found[0].online
    outcome = head.contrast(Contrasted(online, online if same else keys, scale))
    text, picture, by_scale = torch.autograd.grad(outcome.loss, leaves)
    share = outcome.loss.detach() / len(found)
    texts = text.split([len(part.online.text) for part in found])
    pictures = picture.split([len(part.online.picture) for part in found])
    return [
        Cached(*both, by_scale / len(found), Outcome(share, {} if number else outcome.measures))
        for number, both in enumerate(zip(texts, pictures, strict=True))
    ]


def gather(vectors: Vectors) -> Vectors:
    """The vectors of every process: here of the only one."""
    return vectors
