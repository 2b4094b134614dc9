"""Wrong partners for texts and pictures: who may be drawn, how likely, and a draw that cannot fail.

Published samplers crash: torch.multinomial raises where a peaked softmax underflows to zeros, or where every
pair of a batch is of one picture. Here a row that nobody may be drawn for gets −1.

Legend: R rows, C candidates, S sources, T texts, P pictures, K mined pictures.
"""

import torch
from torch import Tensor

from training.config import Sources

NOBODY = -1


def negatives(
    scores_RC: Tensor | None,
    wrong_RC: Tensor,
    mined_RC: Tensor,
    sources: Sources,
    generator: torch.Generator,
) -> Tensor:
    """[R] a wrong candidate each, from the sources in their proportions; −1 where none of them has one."""
    even = torch.zeros(wrong_RC.shape, device=wrong_RC.device)
    found = [
        draw(even if scores_RC is None else scores_RC, wrong_RC, generator),
        draw(even, wrong_RC & mined_RC, generator),
        draw(even, wrong_RC, generator),
    ]
    candidates_RS = torch.stack(found, dim=1)
    shares = torch.tensor([sources.similar, sources.mined, sources.random], device=wrong_RC.device)
    source = draw(shares.log().expand_as(candidates_RS), (candidates_RS >= 0) & (shares > 0), generator)
    chosen = candidates_RS.gather(1, source.clamp(min=0)[:, None])[:, 0]
    return torch.where(source >= 0, chosen, NOBODY)


def draw(logits_RC: Tensor, allowed_RC: Tensor, generator: torch.Generator) -> Tensor:
    """[R] a candidate each, drawn with softmax(logits) over those allowed; −1 where none is.

    By Gumbel noise and a maximum: nothing is normalised, so nothing underflows.
    """
    if not logits_RC.shape[1]:
        return torch.full((len(logits_RC),), NOBODY, device=logits_RC.device)
    uniform = torch.rand(logits_RC.shape, generator=generator, dtype=torch.float64)
    gumbel = -(-uniform.clamp(min=1e-300).log()).log()
    noisy = logits_RC.double() + gumbel.to(logits_RC.device)
    best = noisy.masked_fill(~allowed_RC, -torch.inf).argmax(1)
    return torch.where(allowed_RC.any(1), best, NOBODY)


def mined(neg_picture_TK: Tensor, pictures: int) -> Tensor:
    """[T,P] which pictures were mined for a text."""
    table = torch.zeros(len(neg_picture_TK), pictures, dtype=torch.bool, device=neg_picture_TK.device)
    text, place = (neg_picture_TK >= 0).nonzero(as_tuple=True)
    table[text, neg_picture_TK[text, place]] = True
    return table
