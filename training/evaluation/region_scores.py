"""Which of a picture's boxes a phrase names, and which of several texts is true of a box.

one_of_n: the text among those that its dataset gives as false, 11 in FG-OVD. changed: among changed texts.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from msgspec import Struct, field
from torch import Tensor

from contract.index import is_region
from contract.record import Text
from training.batching.needs import Need
from training.evaluation.held_out import SWAPS, HeldOut, Picture, asked
from training.evaluation.metrics import matching
from training.evaluation.metrics.matching import Choice
from training.evaluation.scored import Counts, Scored, Section, Sections, Wanted, scored
from training.heads.region import RegionHead
from training.heads.region_pairs import phrases

NEGATIVES = 10  # false texts of a box, at most, as FG-OVD gives them
ASK = {"matching": "phrases", "one_of_n": "texts", "changed": "texts"}


def score(held: HeldOut, _wanted: Wanted) -> Scored | str:
    """`matching`, whose chance is the share of the candidates that is right; of the others 1 / the texts.

    Candidates are the boxes of the phrase's picture, but for those that show the same thing as the right one.
    """
    found = {name: _sections(held, name, some) for name, some in held.pictures(is_region).items()}
    return scored("region", found)


def _sections(held: HeldOut, dataset: str, pictures: Sequence[Picture]) -> Sections:
    noted = held.noted([picture for picture in pictures if picture.texts])
    found = {name: section(one, ASK[name], noted) for name, one in asks(held, dataset, pictures).items()}
    return {name: one for name, one in found.items() if one.weight}


class Asks(Struct):
    """One set of questions, batch by batch. noted: how many more there are, by why they are not asked."""

    choices: list[Choice] = []
    noted: Counter[str] = field(default_factory=Counter)


@torch.inference_mode()
def asks(held: HeldOut, dataset: str, pictures: Sequence[Picture]) -> dict[str, Asks]:
    """Of each batch. No candidates are boxes that the encoder does not see, crowds, those that another phrase
    of the same words names, and those that overlap a right one by half of their union or more.
    """
    head = cast(RegionHead, held.model.heads["region"])
    found = {name: Asks() for name in ASK}
    need = Need(None, is_region, regions=True, swaps=True)
    swaps = SWAPS if held.shards.source.mined_there else 0
    found["matching"].noted["beyond_max_tokens"] = beyond(held.shown(pictures), held.max_tokens)
    for batch in held.batches(
        "region", dataset, asked(pictures), need, text_negatives=NEGATIVES, swaps=swaps
    ):
        pairs, told = head.compared(held.model.trunk(batch), batch)
        known = told.real[:, 0]  # the box of the text can be seen
        whole = found["matching"]
        whole.choices.append(matching.entity_object(*_arrays(pairs.cosine, pairs.linked, pairs.candidates)))
        whole.noted["without_box"] += len(phrases(batch).text) - len(pairs.phrase)
        for name, columns in (("one_of_n", slice(NEGATIVES)), ("changed", slice(NEGATIVES, None))):
            scores, there_too = (_first_and(of, columns) for of in (told.cosine, told.real))
            found[name].choices.append(matching.one_of_n(*_arrays(scores[known], there_too[known])))
            found[name].noted["without_box"] += int(there_too[~known][:, 1:].any(1).sum())
    return found


def beyond(texts: Sequence[Text], max_tokens: int) -> int:
    """How many of their spans that name a box end where the model reads no more."""
    return sum(
        end > max_tokens
        for text in texts
        for (_, end), rows in zip(text.span_tokens, text.span_regions, strict=True)
        if rows
    )


def _first_and(of_SC: Tensor, columns: slice) -> Tensor:
    """The true text, which stands first, and these of the false ones."""
    return torch.cat([of_SC[:, :1], of_SC[:, 1:][:, columns]], dim=1)


def _arrays(*tensors: Tensor) -> Iterator[Any]:
    return (tensor.cpu().numpy() for tensor in tensors)


def section(found: Asks, what: str, noted: Counts) -> Section:
    """A metric's summary as a section."""
    made = matching.summary(found.choices)
    counts = {what: int(made["questions"] or 0)}
    return Section(
        {"accuracy": made["accuracy"]}, {"accuracy": made["chance"]}, counts, {**noted, **found.noted}
    )
