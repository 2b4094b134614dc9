"""The contrasts of phrases with boxes that `region` has by option.

Legend: R boxes, S phrases.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from msgspec import Struct
from torch import Tensor

from training.heads.region_pairs import Pairs, first
from training.objectives.losses import arcface_logits, equal_mass, info_nce, supcon
from training.objectives.memory_bank import More
from training.objectives.similarity import similarities


class Side(Struct):
    """One way of the contrast: cosines of its rows with the columns of the batch and more, and what holds."""

    cosine: Tensor
    linked: Tensor
    ignored: Tensor


def sides(pairs: Pairs) -> tuple[Side, Side]:
    """Phrases over boxes, and boxes over phrases."""
    there = Side(pairs.cosine, pairs.linked, pairs.ignored)
    back = Side(there.cosine.T, pairs.linked.T, pairs.ignored.T)
    return _wider(there, pairs.phrase, pairs.more_boxes), _wider(back, pairs.box, pairs.more_phrases)


def _wider(side: Side, query: Tensor, more: More | None) -> Side:
    if more is None:
        return side
    return Side(
        torch.cat([side.cosine, similarities(query, more.vectors)], dim=1),
        F.pad(side.linked, (0, len(more.vectors))),
        torch.cat([side.ignored, more.ignored], dim=1),
    )


def _info_nce(pairs: Pairs, scale: Tensor, _margin: float) -> Tensor:
    there, back = (info_nce(scale * s.cosine, equal_mass(s.linked), s.ignored) for s in sides(pairs))
    return 0.5 * (there + back)


def _arcface(pairs: Pairs, scale: Tensor, margin: float) -> Tensor:
    """The margin at the first box of each phrase, and at the first phrase of each box."""
    there, back = (
        info_nce(
            scale * arcface_logits(s.cosine, _label(s.linked), 1.0, margin), equal_mass(s.linked), s.ignored
        )
        for s in sides(pairs)
    )
    return 0.5 * (there + back)


def _label(linked_SR: Tensor) -> Tensor:
    """[S] the first linked column, -1 where there is none."""
    return torch.where(linked_SR.any(1), first(linked_SR), -1)


def _supcon(pairs: Pairs, scale: Tensor, _margin: float) -> Tensor:
    """A class per wording; a box is of all classes that name it, and each of its phrases is its own."""
    return supcon(torch.cat([pairs.phrase, pairs.box]), alike(pairs), scale, _unjudged(pairs))


def alike(pairs: Pairs) -> Tensor:
    """[S+R,S+R] phrases of the same words or box; a box and the words that name it; boxes that share one."""
    said, linked = pairs.label[:, None] == pairs.label, pairs.linked.float()
    named = said.float() @ linked  # how often a phrase's words name a box
    return _square(said | (linked @ linked.T > 0), named > 0, linked.T @ named > 0)


def _unjudged(pairs: Pairs) -> Tensor:
    """[S+R,S+R] what is ignored of phrases and boxes, and two boxes of the same thing, or phrases of two."""
    linked = pairs.linked.float()
    same_SS = linked @ pairs.same.float() @ linked.T > 0
    return _square(same_SS, pairs.ignored, pairs.same)


def _square(of_SS: Tensor, between_SR: Tensor, of_RR: Tensor) -> Tensor:
    """[S+R,S+R] phrases and boxes with one another."""
    return torch.cat([torch.cat([of_SS, between_SR], dim=1), torch.cat([between_SR.T, of_RR], dim=1)])


CONTRASTS: dict[str, Callable[[Pairs, Tensor, float], Tensor]] = {
    "infonce": _info_nce,
    "supcon": _supcon,
    "arcface": _arcface,
}
