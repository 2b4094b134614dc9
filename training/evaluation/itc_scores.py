"""Retrieval by the vectors of texts and pictures, both ways, over every picture of a dataset's split.

Each text and picture is encoded once. Copies of a picture do not compete with it; a text of the same words on
another picture does, as in the published figures.
"""

from collections.abc import Sequence
from typing import cast

import torch

from contract.index import is_pair
from training.batching.needs import Need
from training.evaluation.held_out import HeldOut, Picture
from training.evaluation.metrics.retrieval import Search, both_ways, chance, recalls
from training.evaluation.scored import Scored, Section, Sections, Wanted, scored
from training.heads.itc import ItcHead
from training.objectives.contrast import Identity, Vectors, join

KS = (1, 5, 10)
ASK = {"text_to_picture": "texts", "picture_to_text": "pictures"}


def score(held: HeldOut, _wanted: Wanted) -> Scored | str:
    """R@1, R@5 and R@10 of each direction."""
    return scored("itc", {name: _sections(held, name, some) for name, some in held.pictures(is_pair).items()})


def _sections(held: HeldOut, dataset: str, pictures: Sequence[Picture]) -> Sections:
    there = [picture for picture in pictures if not picture.absent]
    if not there:
        return {}
    every = vectors(held, dataset, there)
    of = every.identity
    vectors_of = (every.text.numpy(), every.picture.numpy())
    found = both_ways(*vectors_of, of.text_picture.numpy(), of.words.numpy(), of.group.numpy())
    noted = held.noted(pictures)
    return {name: Section(*_measures(one), {ASK[name]: len(one.ranks)}, noted) for name, one in found.items()}


@torch.inference_mode()
def vectors(held: HeldOut, dataset: str, pictures: Sequence[Picture]) -> Vectors:
    """Of all these pictures and their texts, on the CPU."""
    head = cast(ItcHead, held.model.heads["itc"])
    parts = []
    for batch in held.batches("itc", dataset, pictures, Need(None, is_pair)):
        found = head.vectors(held.model.trunk(batch), batch)
        of = found.identity
        kept = Identity(of.text_picture.cpu(), of.group.cpu(), of.words.cpu())
        parts.append(Vectors(found.text.cpu(), found.picture.cpu(), kept))
    return join(parts)


def _measures(found: Search) -> tuple[dict[str, float], dict[str, float]]:
    """Recalls and those of a random order; none where nothing asks."""
    if not len(found.ranks):
        return {}, {}
    return recalls(found.ranks, KS), chance(found.right, found.candidates, KS)
