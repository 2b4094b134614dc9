"""Which of a picture's boxes a phrase names, and which of several texts is true of a box.

one_of_n: the text among those that its dataset gives as false, 11 in FG-OVD. changed: among changed texts.
"""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from contract.index import is_region
from training.batching.needs import Need
from training.evaluation.held_out import SWAPS, HeldOut, Picture, asked
from training.evaluation.metrics import matching
from training.evaluation.metrics.matching import Choice
from training.evaluation.scored import Scored, Section, Sections, Wanted, scored
from training.heads.region import RegionHead

NEGATIVES = 10  # false texts of a box, at most, as FG-OVD gives them
ASK = {"matching": "phrases", "one_of_n": "texts", "changed": "texts"}


def score(held: HeldOut, _wanted: Wanted) -> Scored | str:
    """`matching`, whose chance is the share of the candidates that is right; of the others 1 / the texts.

    Candidates are the boxes of the phrase's picture, but for those that show the same thing as the right one.
    """
    found = {name: _sections(held, name, some) for name, some in held.pictures(is_region).items()}
    return scored("region", found)


def _sections(held: HeldOut, dataset: str, pictures: Sequence[Picture]) -> Sections:
    found = {name: matching.summary(some) for name, some in choices(held, dataset, asked(pictures)).items()}
    return {name: section(one, ASK[name]) for name, one in found.items() if one["questions"]}


@torch.inference_mode()
def choices(held: HeldOut, dataset: str, pictures: Sequence[Picture]) -> dict[str, list[Choice]]:
    """Of each batch. No candidates are boxes that the encoder does not see, crowds, those that another phrase
    of the same words names, and those that overlap a right one by half of their union or more.
    """
    head = cast(RegionHead, held.model.heads["region"])
    found: dict[str, list[Choice]] = {name: [] for name in ASK}
    need = Need(None, is_region, regions=True, swaps=True)
    swaps = SWAPS if held.shards.source.mined_there else 0
    for batch in held.batches("region", dataset, pictures, need, text_negatives=NEGATIVES, swaps=swaps):
        pairs, hard, real = head.compared(held.model.trunk(batch), batch)
        known = real[:, 0]  # the box of the text can be seen
        found["matching"].append(
            matching.entity_object(*_arrays(pairs.cosine, pairs.linked, pairs.candidates))
        )
        for name, columns in (("one_of_n", slice(NEGATIVES)), ("changed", slice(NEGATIVES, None))):
            found[name].append(
                matching.one_of_n(*_arrays(*(_first_and(of[known], columns) for of in (hard, real))))
            )
    return found


def _first_and(of_SC: Tensor, columns: slice) -> Tensor:
    """The true text, which stands first, and these of the false ones."""
    return torch.cat([of_SC[:, :1], of_SC[:, 1:][:, columns]], dim=1)


def _arrays(*tensors: Tensor) -> Iterator[Any]:
    return (tensor.cpu().numpy() for tensor in tensors)


def section(found: dict[str, float | int | None], what: str) -> Section:
    """A metric's summary as a section."""
    return Section(
        {"accuracy": found["accuracy"]}, {"accuracy": found["chance"]}, {what: int(found["questions"] or 0)}
    )
