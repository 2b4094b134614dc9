"""Region–phrase contrast: which box a phrase names (FG-CLIP: L_region and L_hard).

A phrase is a span of a text, or a whole text, that is linked to a box.

Legend: T texts, R boxes, S phrases, K negatives, H hidden, W width of the joint space, V views.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from msgspec import Struct, structs
from torch import Tensor, nn

from contract.seeds import seed64
from training.batch import Batch
from training.config import Region
from training.modules.logit_scale import LogitScale
from training.modules.pooling import POOLINGS
from training.modules.regions import box_vectors, same_thing, to_input
from training.objectives.losses import arcface_logits, equal_mass, info_nce, one_of, supcon
from training.objectives.memory_bank import More, joined
from training.objectives.outcome import Outcome
from training.objectives.pairing import draw
from training.objectives.region_bank import Links, RegionBank
from training.objectives.similarity import similarities
from training.schedule import value_at
from training.trunk import masked_view
from training.trunk.picture import Column
from training.trunk.trunk import Shared


class Phrases(Struct):
    """text [S] into T; span [S,2] of its tokens; whole [S]: the whole text; words [S]: equal for phrases that
    say the same; linked [S,R] to which boxes.

    Spans stand before whole texts.
    """

    text: Tensor
    span: Tensor
    whole: Tensor
    words: Tensor
    linked: Tensor


def phrases(batch: Batch) -> Phrases:
    """The spans and the whole texts that have a box."""
    spans, span_place = batch.span_box[:, 0].unique(return_inverse=True)
    texts, text_place = batch.about[:, 0].unique(return_inverse=True)
    lengths = batch.token_mask.sum(1)[texts]
    linked = batch.crowd.new_zeros(len(spans) + len(texts), len(batch.boxes))
    linked[span_place, batch.span_box[:, 1]] = True
    linked[len(spans) + text_place, batch.about[:, 1]] = True
    return Phrases(
        text=torch.cat([batch.span_text[spans], texts]),
        span=torch.cat([batch.spans[spans], torch.stack([torch.zeros_like(lengths), lengths], 1)]),
        whole=torch.arange(len(linked), device=texts.device) >= len(spans),
        words=torch.cat([batch.span_words[spans], batch.words[texts]]),
        linked=linked,
    )


def repeats(batch: Batch, phrase: Phrases) -> Tensor:
    """[S,S] phrases that no model can tell apart, so that what one names is no negative of the other.

    The same words of two pictures; in one picture, only if the rest of the text is the same too.
    """
    word, text = phrase.words, batch.words[phrase.text]
    picture = batch.text_picture[phrase.text]
    same_text = (text[:, None] == text) & (phrase.whole[:, None] == phrase.whole)
    return (word[:, None] == word) & (same_text | (picture[:, None] != picture))


def asking(batch: Batch) -> int:
    """Whole texts of a box that the first column's encoder sees, with something that is false of it."""
    _, seen = to_input(batch.boxes, next(iter(batch.place.values()))[batch.box_picture])
    text, box = batch.about.unbind(1)
    shown = text[(seen & ~batch.crowd)[box]].unique()
    return int((torch.cat([batch.neg_text, batch.swapped], 1)[shown] >= 0).any(1).sum())


class Pairs(Struct):
    """Unit vectors of phrases [S,W] and boxes [R,W], and what holds between them, all [S,R] bool.

    linked: the phrase names the box. ignored: it does not, but it or another of the same words names this box
    or one of the same thing. own: both are of one picture. same [R,R]: two boxes are of the same thing. label
    [S]: a number per wording. links: the same as `linked`, as other batches know it. row [R]: the boxes'
    numbers in the batch. more_boxes, more_phrases: columns that are negatives only.
    """

    phrase: Tensor
    box: Tensor
    linked: Tensor
    ignored: Tensor
    own: Tensor
    same: Tensor
    label: Tensor
    links: Links
    row: Tensor
    more_boxes: More | None = None
    more_phrases: More | None = None

    @property
    def cosine(self) -> Tensor:
        """[S,R]."""
        return similarities(self.phrase, self.box)

    @property
    def candidates(self) -> Tensor:
        """[S,R] the boxes of a phrase's picture that are right or wrong."""
        return self.own & ~self.ignored


class RegionHead(nn.Module):
    """Picture tokens and text states → contrast of phrases with boxes, and with texts false of the box.

    step: optimizer steps done, which the loop tells; the warm-up of the bank counts it.
    """

    def __init__(self, hidden: int, column: Column, options: Region) -> None:
        super().__init__()
        self.column, self.options, self.step = column, options, 0
        self.pool = POOLINGS[options.pooling](hidden)
        self.box, self.phrase = nn.Linear(hidden, options.width), nn.Linear(hidden, options.width)
        scale = options.scale
        self.coarse, self.fine = (LogitScale(scale.init, scale.most, scale.learned) for _ in range(2))
        self.bank = RegionBank(options.bank.slots, options.width) if options.bank else None

    def forward(self, shared: Shared, batch: Batch) -> Outcome:
        """Zero, with no measure counted, where the encoder sees none of the boxes that are named."""
        pairs, hard, real = self.compared(shared, batch)
        options = self.options
        coarse = value_at(options.coarse, options.coarse_end, batch.progress)
        fine = value_at(options.fine, options.fine_end, batch.progress)
        contrasted = self._with_more(pairs, shared, batch) if self.training else pairs
        contrast = CONTRASTS[options.contrast](contrasted, self.coarse(), options.margin)
        losses = (coarse * contrast, fine * one_of(self.fine() * hard, real))
        return Outcome(losses, matching(pairs) | one_of_n(hard, real))

    def compared(self, shared: Shared, batch: Batch) -> tuple[Pairs, Tensor, Tensor]:
        """Phrases with boxes; cosines [S,1+K] of boxes with true and false texts, and which there are."""
        boxes, usable = self._boxes(shared, batch)
        named = phrases(batch)
        pairs = self._pairs(shared, batch, named, boxes, usable)
        return pairs, *self._against_negatives(shared, batch, named, boxes, usable)

    def _with_more(self, pairs: Pairs, shared: Shared, batch: Batch) -> Pairs:
        """Also against the bank, once its warm-up is over, and against boxes without what they showed."""
        boxes = self._emptied(pairs, shared, batch) if self.options.masked else []
        phrases = []
        if self.bank is not None and self.options.bank is not None:
            if self.step >= self.options.bank.warmup:
                boxes.append(self.bank.more_boxes(pairs.links, len(pairs.phrase)))
                phrases.append(self.bank.more_phrases(pairs.links, len(pairs.box)))
            self.bank.see(pairs.links, pairs.phrase, pairs.box)
        return structs.replace(pairs, more_boxes=joined(boxes), more_phrases=joined(phrases))

    def _emptied(self, pairs: Pairs, shared: Shared, batch: Batch) -> list[More]:
        """What is left [V,W] where a named box of each picture is hidden: a negative for its phrases."""
        assert shared.look is not None
        columns, chosen = shared.look.columns, _one_of_each(pairs, batch)
        row = pairs.row[chosen]
        links = torch.stack([torch.arange(len(row), device=row.device), row], dim=1)
        picture = batch.box_picture[row]
        hidden = masked_view.covering(batch, columns, picture, batch.boxes, links)
        told = masked_view.tells(batch, columns, picture, hidden)
        if not told.any():
            return []
        picture, hidden = picture[told], {name: tokens[told] for name, tokens in hidden.items()}
        tokens, _ = shared.look(masked_view.masked(batch, columns, picture, hidden))
        place, own = batch.place[self.column.name][picture], torch.arange(len(picture), device=row.device)
        cells, _ = box_vectors(tokens, batch.boxes[row[told]], own, place, self.column.grid, self.column.cls)
        return [More(_unit(self.box(cells)), ~pairs.linked[:, chosen[told]])]

    def _boxes(self, shared: Shared, batch: Batch) -> tuple[Tensor, Tensor]:
        """Unit vectors [R,W] of the boxes, zero where a box is out of use, and which are of use [R]."""
        place, column = batch.place[self.column.name], self.column
        vectors, seen = box_vectors(
            shared.picture, batch.boxes, batch.box_picture, place, column.grid, column.cls
        )
        usable = seen & ~batch.crowd
        found = vectors.new_zeros(len(vectors), self.options.width)
        return found.index_copy(0, usable.nonzero()[:, 0], _unit(self.box(vectors[usable]))), usable

    def _pairs(self, shared: Shared, batch: Batch, named: Phrases, boxes: Tensor, usable: Tensor) -> Pairs:
        """The phrases that name a usable box, with all usable boxes."""
        known = (named.linked & usable).any(1)
        said_too = repeats(batch, named)[known][:, known].float()
        same = same_thing(batch.boxes[usable], batch.box_picture[usable])
        linked = named.linked[known][:, usable]
        picture = batch.text_picture[named.text[known]]
        words = named.words[known]
        phrase, box = linked.nonzero(as_tuple=True)
        return Pairs(
            phrase=self._vectors(shared, named)[known],
            box=boxes[usable],
            linked=linked,
            ignored=(said_too @ linked.float() @ same.float() > 0) & ~linked,
            own=picture[:, None] == batch.box_picture[usable],
            same=same,
            label=words.unique(return_inverse=True)[1],
            links=Links(phrase, box, batch.group_ids()[picture][phrase], words[phrase]),
            row=usable.nonzero()[:, 0],
        )

    def _vectors(self, shared: Shared, named: Phrases) -> Tensor:
        """[S,W] of phrases: pooled over the span's states, or the summary of a whole text."""
        at = torch.arange(shared.text.shape[1], device=named.text.device) - 1  # the summary stands first
        inside = (at >= named.span[:, :1]) & (at < named.span[:, 1:])
        part = ~named.whole
        spans = self.pool(shared.text[named.text[part]], inside[part])
        return _unit(self.phrase(torch.cat([spans, shared.text[:, 0][named.text[named.whole]]])))

    def _against_negatives(
        self, shared: Shared, batch: Batch, named: Phrases, boxes: Tensor, usable: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Cosines [S,1+K] of the box of each whole text with it and its negatives, and which there are."""
        whole = named.whole
        text, linked = named.text[whole], named.linked[whole] & usable
        negatives = torch.cat([batch.neg_text[text], batch.swapped[text]], 1)
        candidates = torch.cat([text[:, None], negatives.clamp(min=0)], 1)
        own = torch.cat([boxes, boxes.new_zeros(1, boxes.shape[1])])[_first(linked)]
        vectors = _unit(self.phrase(shared.text[candidates, 0]))
        real = torch.cat([linked.any(1, keepdim=True), negatives >= 0], 1)
        return (vectors * own[:, None]).sum(2), real  # in float32, as `similarities` are


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors.float(), dim=-1)


def _first(linked_SR: Tensor) -> Tensor:
    """[S] the first linked column, R where there is none."""
    columns = torch.arange(linked_SR.shape[1] + 1, device=linked_SR.device)
    return torch.where(F.pad(linked_SR, (0, 1), value=True), columns, len(columns)).amin(1)


@torch.no_grad()
def _one_of_each(pairs: Pairs, batch: Batch) -> Tensor:
    """One named box of each picture that has one, a function of the stream's position."""
    generator = torch.Generator().manual_seed(seed64("emptied", batch.position, *batch.keys[:1]) >> 1)
    pictures = torch.arange(len(batch.keys), device=pairs.row.device)
    its_own = pictures[:, None] == batch.box_picture[pairs.row]
    chosen = draw(torch.zeros(its_own.shape, device=its_own.device), its_own & pairs.linked.any(0), generator)
    return chosen[chosen >= 0]


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
    return torch.where(linked_SR.any(1), _first(linked_SR), -1)


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


def matching(pairs: Pairs) -> dict[str, tuple[Tensor, int]]:
    """Entity–object matching: is the best of its candidates a box that a phrase names? And its chance."""
    cosine, right = pairs.cosine.detach(), pairs.linked
    best = cosine.masked_fill(~right, -2).amax(1) if right.numel() else cosine.sum(1)
    others = cosine.masked_fill(right | ~pairs.candidates, -2).amax(1) if right.numel() else best
    chance = right.sum(1) / pairs.candidates.sum(1).clamp(min=1)
    return {"matching": ((best > others).sum(), len(best)), "matching_chance": (chance.sum(), len(best))}


def one_of_n(scores_SC: Tensor, real_SC: Tensor) -> dict[str, tuple[Tensor, int]]:
    """FG-OVD: how often the true text, which stands first, beats all that are false of the box. And its
    chance, by how many there are.
    """
    asks = real_SC[:, 0] & real_SC[:, 1:].any(1)
    scores = scores_SC.detach().masked_fill(~real_SC, -2)[asks]
    right, chance = (scores[:, :1] > scores[:, 1:]).all(1), 1 / real_SC[asks].sum(1)
    return {"one_of_n": (right.sum(), len(scores)), "one_of_n_chance": (chance.sum(), len(scores))}
