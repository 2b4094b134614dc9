"""Matching, a side at a time: texts with their own picture, with a wrong one, and pictures with a wrong text.

random: the pictures stand in a random order that is always the same, those of many texts first, and the
wrong partner of each text is one nearby, such that neither words nor pictures alone tell which pairs are
wrong. mined: the nearest picture of negatives/; mined_text: one of the texts there. swapped: the text with
one thing changed, of the same folder, in all and by what was changed. What may be true after all (copies,
the same words) is left out.

Legend: R texts of the task, P pictures, N pairs.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor

from contract.index import is_pair
from training.batch import KINDS, Batch
from training.batching.needs import Need
from training.evaluation import partners
from training.evaluation.held_out import SWAPS, HeldOut, Picture, asked, shuffled
from training.evaluation.metrics import matching
from training.evaluation.metrics.retrieval import Flags, Scores
from training.evaluation.scored import Counts, Scored, Section, Sections, Values, Wanted, scored
from training.heads.itm import ItmHead
from training.objectives.contrast import identify, unjudged
from training.trunk.trunk import Shared

NONE = np.zeros(0, np.float32)

Said = Mapping[str, Mapping[str, str]]  # a picture's key → its texts, by their ids


class Sides(Struct):
    """Log-odds [N] of a match: of texts with their own picture, and of wrong pairs with these.

    elsewhere, changed_elsewhere: such texts and the wrong ones with another picture, which tells what the
    wording alone gives away. without_partner: texts left out, as what they were to be asked with may be true.
    """

    own: Scores
    wrong_picture: Scores = NONE
    wrong_text: Scores = NONE
    elsewhere: Scores = NONE
    changed_elsewhere: Scores = NONE
    without_partner: int = 0


class Around(Struct):
    """Of each text [R]: its row, its picture, and the row and the picture of the next text.

    false [R]: there is a next text; neither it nor this one is true of the other's picture.
    """

    text: Tensor
    picture: Tensor
    next_picture: Tensor
    next_text: Tensor
    false: Tensor


def score(held: HeldOut, _wanted: Wanted) -> Scored | str:
    """Accuracy of each side, and accuracy and AUC of each kind of wrong pair against the true ones.

    A model that sees no picture gives both sides of `random` and `mined` the same texts, so it is at 0.5, as
    is one that reads no text, of `random`; of `swapped` and `mined_text` the baseline is this model, asked
    about another picture.
    """
    found = {name: _sections(held, name, some) for name, some in held.pictures(is_pair).items()}
    return scored("itm", found)


def _sections(held: HeldOut, dataset: str, pictures: Sequence[Picture]) -> Sections:
    parts = list(judged(held, dataset, in_turn(asked(pictures), dataset)))
    names = dict.fromkeys(name for part in parts for name in part)
    found = {name: join(part[name] for part in parts if name in part) for name in names}
    noted = held.noted([picture for picture in pictures if picture.texts])
    return {name: section(sides, noted) for name, sides in found.items() if len(sides.own)}


def in_turn(pictures: Sequence[Picture], dataset: str) -> list[Picture]:
    """In a random order, but beside those of as many texts: then few texts lack a partner."""
    return sorted(shuffled(pictures, dataset), key=lambda picture: -len(picture.texts))


@torch.inference_mode()
def judged(held: HeldOut, dataset: str, pictures: Sequence[Picture]) -> Iterable[dict[str, Sides]]:
    """Batch by batch, the log-odds of each kind of pair that the batch has."""
    head = cast(ItmHead, held.model.heads["itm"])
    need = Need(None, is_pair, swaps=True, near=True)
    mined = {"negatives": 1, "near_texts": 1, "swaps": SWAPS} if held.shards.source.mined_there else {}
    said = {one.key: {text.id: text.text for text in one.texts} for one in pictures}
    size = partners.whole_groups(held.batch)
    for batch in held.batches("itm", dataset, pictures, need, size, **mined):
        shared = held.model.trunk(batch)
        ours = around(batch)
        yield {
            "random": random_pairs(head, shared, ours),
            **(mined_pairs(head, shared, batch, ours, said) if mined else {}),
            **(mined_texts(head, shared, batch, ours) if mined else {}),
            **(swapped_pairs(head, shared, batch, ours) if mined else {}),
        }


def around(batch: Batch) -> Around:
    """Of the texts of a batch, which holds whole groups of pictures."""
    rows = batch.rows["itm"]
    picture, may_be_true_RP = batch.text_picture[rows], unjudged(identify(batch, rows))
    found = partners.next_texts(picture.cpu().numpy(), may_be_true_RP.cpu().numpy())
    after = torch.from_numpy(found).to(rows.device)
    return Around(rows, picture, picture[after], rows[after], after != partners.NOBODY)


def random_pairs(head: ItmHead, shared: Shared, ours: Around) -> Sides:
    """Each text with the picture of the next, and that one with its picture: as many of each."""
    text, picture = ours.text[ours.false], ours.picture[ours.false]
    return Sides(
        own=log_odds(head, shared, text, picture),
        wrong_picture=log_odds(head, shared, text, ours.next_picture[ours.false]),
        wrong_text=log_odds(head, shared, ours.next_text[ours.false], picture),
        without_partner=int((~ours.false).sum()),
    )


def mined_pairs(head: ItmHead, shared: Shared, batch: Batch, ours: Around, said: Said) -> dict[str, Sides]:
    """Each text with the nearest picture of its own, where there is one that it may be false of."""
    near = batch.neg_picture[ours.text, 0]
    mined = near >= 0
    there = mined & shared.visible.any(1)[near]
    there &= ~batch.same_picture()[ours.picture, near]
    for number in there.nonzero()[:, 0].tolist():
        mine, other = (batch.keys[rows[number]] for rows in (ours.picture, near))
        there[number] = said[mine][batch.text_id[ours.text[number]]] not in said.get(other, {}).values()
    text = ours.text[there]
    own = log_odds(head, shared, text, ours.picture[there])
    wrong = log_odds(head, shared, text, near[there])
    return {"mined": Sides(own, wrong_picture=wrong, without_partner=int((mined & ~there).sum()))}


def mined_texts(head: ItmHead, shared: Shared, batch: Batch, ours: Around) -> dict[str, Sides]:
    """Each text with one of those that were mined for it, where there are any."""
    false, sides = _false_texts(head, shared, ours, batch.near_text)
    return {"mined_text": sides(np.ones(len(false), np.bool_))}


def swapped_pairs(head: ItmHead, shared: Shared, batch: Batch, ours: Around) -> dict[str, Sides]:
    """Each text that has changed ones with these, in all and by what was changed."""
    changed, sides = _false_texts(head, shared, ours, batch.swapped)
    kind = batch.kind[changed].cpu().numpy()
    kinds = {"swapped": kind >= 0} | {f"swapped_{KINDS[one]}": kind == one for one in np.unique(kind)}
    return {name: sides(of_kind) for name, of_kind in kinds.items()}


def _false_texts(
    head: ItmHead, shared: Shared, ours: Around, false_TK: Tensor
) -> tuple[Tensor, Callable[[Flags], Sides]]:
    """The false texts [N] in these rows, and what is found of any of them; a true text counts once for each.

    Elsewhere is the next picture, where the true text is false of it.
    """
    of, column = (false_TK[ours.text] >= 0).nonzero(as_tuple=True)
    apart, false = ours.false[of].cpu().numpy(), false_TK[ours.text[of], column]
    here, elsewhere = (
        [log_odds(head, shared, words, picture) for words in (ours.text[of], false)]
        for picture in (ours.picture[of], ours.next_picture[of])
    )

    def sides(some: Flags) -> Sides:
        return Sides(
            here[0][some],
            wrong_text=here[1][some],
            elsewhere=elsewhere[0][some & apart],
            changed_elsewhere=elsewhere[1][some & apart],
        )

    return false, sides


def log_odds(head: ItmHead, shared: Shared, text: Tensor, picture: Tensor) -> Scores:
    """[N] of a match; above 0 is a yes."""
    if not len(text):
        return NONE
    logits = head.logits(shared, text, picture).float()
    odds: Scores = (logits[:, 1] - logits[:, 0]).cpu().numpy()
    return odds


def join(parts: Iterable[Sides]) -> Sides:
    """The pairs of all parts."""
    some = list(parts)
    *scores, left_out = ([getattr(part, name) for part in some] for name in Sides.__struct_fields__)
    fields: list[Any] = [*map(np.concatenate, scores), sum(left_out)]
    return Sides(*fields)


def section(sides: Sides, noted: Counts) -> Section:
    """The share of right answers on each side that is asked, and how the wrong ones differ from the true."""
    shares = {
        "own": _share(sides.own > 0),
        "wrong_picture": _share(sides.wrong_picture <= 0),
        "wrong_text": _share(sides.wrong_text <= 0),
    }
    told = matching.itm(sides.own, sides.wrong_picture, sides.wrong_text)
    guess: Values = dict.fromkeys(told, 0.5)
    if not len(sides.wrong_picture):  # what is false may show in its words
        guess = matching.itm(sides.elsewhere, NONE, sides.changed_elsewhere)
    values = {name: value for name, value in (shares | told).items() if value is not None}
    chance = {name: value for name, value in guess.items() if name in values}
    left_out = {"without_partner": sides.without_partner}
    return Section(values, chance, {"pairs": len(sides.own)}, {**noted, **left_out})


def _share(right: Flags) -> float | None:
    return float(right.mean()) if len(right) else None
