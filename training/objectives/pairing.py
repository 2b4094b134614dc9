"""Wrong partners for texts and pictures: who may be drawn, how likely, and a draw that cannot fail.

Published samplers crash: torch.multinomial raises where a peaked softmax underflows to zeros, or where every
pair of a batch is of one picture. Here a row that nobody may be drawn for gets −1.

Legend: R rows, C candidates, S sources, T texts, P pictures, K mined pictures.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

NOBODY = -1
Source = tuple[float, Callable[[], Tensor]]  # its share, and a candidate of it for each row


def negatives(sources: Mapping[str, Source], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """[R] a wrong candidate each, and the number of its source, in the order given; −1 where none has one.

    A row takes its candidate from the sources in their shares among those that have one for it. A source
    without a share is not asked.
    """
    asked = {number: source for number, source in enumerate(sources.values()) if source[0]}
    candidates_RS = torch.stack([find() for _, find in asked.values()], dim=1)
    shares = torch.tensor([share for share, _ in asked.values()], device=candidates_RS.device)
    place = draw(shares.log().expand_as(candidates_RS), candidates_RS >= 0, generator)
    chosen = candidates_RS.gather(1, place.clamp(min=0)[:, None])[:, 0]
    numbers = torch.tensor(list(asked), device=place.device)
    return (
        torch.where(place >= 0, chosen, NOBODY),
        torch.where(place >= 0, numbers[place.clamp(min=0)], NOBODY),
    )


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


def couples(fits_RR: Tensor, generator: torch.Generator) -> Tensor:
    """[R] whom each row goes with, both ways, at random among those that it fits; −1 where none is left."""
    fits, partner = fits_RR.cpu().numpy(), np.full(len(fits_RR), NOBODY)
    for row in torch.randperm(len(fits), generator=generator).tolist():
        free = (fits[row] & (partner == NOBODY)).nonzero()[0]
        free = free[free != row]
        if partner[row] == NOBODY and len(free):
            other = free[torch.randint(len(free), (1,), generator=generator).item()]
            partner[row], partner[other] = other, row
    return torch.from_numpy(partner).to(fits_RR.device)


def any_of(rows_RK: Tensor, generator: torch.Generator) -> Tensor:
    """[R] one of the K numbers of each row, none of them more likely; −1 is none."""
    place = draw(torch.zeros(rows_RK.shape, device=rows_RK.device), rows_RK >= 0, generator)
    padded = torch.cat([rows_RK, rows_RK.new_full((len(rows_RK), 1), NOBODY)], dim=1)
    return padded.gather(1, place[:, None] % padded.shape[1])[:, 0]


def mined(neg_picture_TK: Tensor, pictures: int) -> Tensor:
    """[T,P] which pictures were mined for a text."""
    table = torch.zeros(len(neg_picture_TK), pictures, dtype=torch.bool, device=neg_picture_TK.device)
    text, place = (neg_picture_TK >= 0).nonzero(as_tuple=True)
    table[text, neg_picture_TK[text, place]] = True
    return table
