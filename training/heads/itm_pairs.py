"""Which pairs itm is taught: each text with its own picture, with a wrong one, and a wrong text in its place.

A text that lacks one of the wrong ones gives neither, so both sides come in equal counts. A wrong picture can
be the text's own with all that it names hidden. Lest the holes tell by themselves, by being there, by their
number, place or shape, such texts exchange theirs two by two: with the text, and with the wrong text, the
picture has the holes of the other one, which that one's picture has where they make it false.

Legend: T texts, P pictures, N pairs, R rows, C candidates.
"""

from collections.abc import Mapping, Sequence

import torch
from msgspec import Struct
from torch import Tensor

from contract.seeds import seed64
from training.batch import Batch
from training.config import Sources
from training.objectives.contrast import Contrasted, identify, unjudged
from training.objectives.pairing import NOBODY, Source, any_of, couples, draw, mined, negatives
from training.objectives.similarity import similarities
from training.trunk import masked_view
from training.trunk.picture import Column

SIDES = ("own", "wrong_picture", "wrong_text")
OWN, WRONG_PICTURE, WRONG_TEXT = range(3)  # into SIDES; the first is true
PLAIN, MASKED, ELSEWHERE = range(3)  # hidden for a pair: nothing more, what the text names, or not that


class Pairs(Struct):
    """text [N] into the batch's T, picture [N] into its P, side [N] into SIDES, view [N]: PLAIN or not. other
    [N] into T: the text whose holes are shown ELSEWHERE.
    """

    text: Tensor
    picture: Tensor
    side: Tensor
    view: Tensor
    other: Tensor


@torch.no_grad()
def sample(batch: Batch, found: Contrasted | None, sources: Sources, columns: Sequence[Column] = ()) -> Pairs:
    """The pairs of a batch, a function of its position and of itc's scores, if there are any.

    columns: of the model; what `masked` hides must leave something in each.
    """
    rows = batch.rows["itm"]
    own = batch.text_picture[rows]
    picture, other, text = _wrong(batch, found, sources, columns)
    there = (picture >= 0) & (text >= 0)
    masked = there & (other >= 0)
    texts, pictures = [rows, rows[there], text[there]], [own, picture[there], own[there]]
    views = [masked * ELSEWHERE, masked[there] * MASKED, masked[there] * ELSEWHERE]
    others = [other, other[there], other[there]]
    sides = [torch.full_like(part, side) for side, part in enumerate(texts)]
    return Pairs(*(torch.cat(parts) for parts in (texts, pictures, sides, views, others)))


def _wrong(
    batch: Batch, found: Contrasted | None, sources: Sources, columns: Sequence[Column]
) -> tuple[Tensor, Tensor, Tensor]:
    """Of each row [R]: a wrong picture, the text that it exchanges holes with where that is its own picture
    with holes, and a wrong text; −1 is none.
    """
    generator = torch.Generator().manual_seed(seed64("itm", batch.position, *batch.keys[:1]) >> 1)
    rows = batch.rows["itm"]
    own, wrong_RP = batch.text_picture[rows], ~unjudged(identify(batch, rows))
    scores_RP = None if found is None else similarities(found.scale * found.online.text, found.online.picture)
    mined_RP = mined(batch.neg_picture[rows], len(batch.keys))
    numbers = torch.arange(len(batch.keys), device=own.device)
    back_RR = None if scores_RP is None else scores_RP.T[own]
    texts = _of_batch(rows, back_RR, wrong_RP.T[own], sources, generator)
    texts["mined"] = sources.mined, lambda: any_of(batch.near_text[rows], generator)
    texts["swapped"] = sources.swapped, lambda: any_of(batch.swapped[rows], generator)
    text, _ = negatives(texts, generator)
    pictures = _of_batch(numbers, scores_RP, wrong_RP, sources, generator)
    pictures["mined"] = sources.mined, lambda: _any(numbers, wrong_RP & mined_RP, generator)
    if not sources.masked:
        return negatives(pictures, generator)[0], torch.full_like(rows, NOBODY), text
    partner = _partners(batch, columns, rows, text >= 0, generator)
    picture, chosen = _or_masked(pictures, sources.masked, own, partner, generator)
    return picture, rows[partner.clamp(min=0)].where(chosen, NOBODY), text


def _or_masked(
    pictures: Mapping[str, Source], share: float, own: Tensor, partner: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """[R] a wrong picture of these sources or the own one with holes, and which it is; couples do alike."""
    masked = {"masked": (share, lambda: own.where(partner >= 0, NOBODY))}
    picture, source = negatives(masked | dict(pictures), generator)
    alone = source == 0
    nobody = {"nobody": (1.0, lambda: torch.full_like(own, NOBODY))}  # where there is no other source
    instead, _ = negatives(nobody | dict(pictures), generator)
    chosen = _by_couples(alone, partner)
    return torch.where(chosen, own, instead.where(alone, picture)), chosen


def _by_couples(chosen_R: Tensor, partner_R: Tensor) -> Tensor:
    """What the first of each couple has chosen, for both; nothing for a row without a partner."""
    first = torch.minimum(torch.arange(len(partner_R), device=partner_R.device), partner_R).clamp(min=0)
    return chosen_R[first] & (partner_R >= 0)


def _of_batch(
    ids_C: Tensor,
    scores_RC: Tensor | None,
    wrong_RC: Tensor,
    sources: Sources,
    generator: torch.Generator,
) -> dict[str, Source]:
    """The sources that take any of the batch's own texts or pictures, which have these ids."""
    return {
        "similar": (sources.similar, lambda: _any(ids_C, wrong_RC, generator, scores_RC)),
        "random": (sources.random, lambda: _any(ids_C, wrong_RC, generator)),
    }


def _any(
    ids_C: Tensor, allowed_RC: Tensor, generator: torch.Generator, scores_RC: Tensor | None = None
) -> Tensor:
    """[R] the id of one that is allowed, by a softmax of the scores, if there are any; NOBODY: none is."""
    even = torch.zeros(allowed_RC.shape, device=allowed_RC.device)
    place = draw(even if scores_RC is None else scores_RC, allowed_RC, generator)
    return ids_C[place.clamp(min=0)].where(place >= 0, NOBODY)


def _partners(
    batch: Batch, columns: Sequence[Column], texts: Tensor, usable: Tensor, generator: torch.Generator
) -> Tensor:
    """[R] another of the usable rows, of which each can hide what the other names; −1 where there is none."""
    hidden, picture = masked_view.of_named(batch, columns, texts), batch.text_picture[texts]
    told = masked_view.tells(batch, columns, picture, hidden) & usable
    fits = masked_view.exchangeable(batch, columns, picture, hidden)
    return couples(fits & told & told[:, None], generator)
