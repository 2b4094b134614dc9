"""Region–phrase contrast: which box a phrase names (FG-CLIP: L_region and L_hard; FG-CLIP 2: CMR and TIC).

Legend: T texts, R boxes, S phrases, K negatives, H hidden, W width of the joint space, V views.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from msgspec import structs
from torch import Tensor, nn

from contract.seeds import seed64
from training.batch import Batch
from training.config import Region
from training.distributed import ALONE, World
from training.heads.region_contrasts import CONTRASTS
from training.heads.region_pairs import Pairs, Phrases, Told, false_phrases, first, phrases, repeats
from training.modules.logit_scale import LogitScale
from training.modules.pooling import POOLINGS
from training.modules.regions import box_vectors, same_thing
from training.objectives.losses import intra_modal, one_of, rank
from training.objectives.memory_bank import More, joined
from training.objectives.outcome import Outcome
from training.objectives.pairing import draw
from training.objectives.rank_threshold import RankThreshold
from training.objectives.region_bank import Links, RegionBank
from training.schedule import value_at
from training.trunk import masked_view
from training.trunk.picture import Column
from training.trunk.trunk import Shared


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
        self.threshold = RankThreshold() if options.rank else None

    def forward(self, shared: Shared, batch: Batch) -> Outcome:
        """Zero, with no measure counted, where the encoder sees none of the boxes that are named."""
        pairs, told = self.compared(shared, batch)
        options = self.options
        coarse = value_at(options.coarse, options.coarse_end, batch.progress)
        fine = value_at(options.fine, options.fine_end, batch.progress)
        contrasted = self._with_more(pairs, told, shared, batch) if self.training else pairs
        contrast = coarse * CONTRASTS[options.contrast](contrasted, self.coarse(), options.margin)
        if options.intra:
            contrast = contrast + options.intra * intra_modal(pairs.phrase, pairs.label)
        logits = self.fine() * told.cosine
        against = fine * one_of(logits, told.real)
        if self.threshold is not None:
            against = against + options.rank * rank(logits, told.real, self.threshold.value)
            if self.training:
                self.threshold.see(logits[:, 0], logits[:, 1:], told.false)
        return Outcome((contrast, against), matching(pairs) | one_of_n(told.cosine, told.real))

    def compared(self, shared: Shared, batch: Batch) -> tuple[Pairs, Told]:
        """Phrases with boxes, and boxes with true and false texts."""
        boxes, usable = self._boxes(shared, batch)
        named = phrases(batch)
        pairs = self._pairs(shared, batch, named, boxes, usable)
        return pairs, self._told(shared, batch, named, boxes, usable)

    def take_in(self, parts: Sequence[int] = (0,), of: int = 1, world: World = ALONE) -> None:
        """After a step: what was seen in its parts goes into the bank and the threshold.

        parts: the numbers of those that were seen here, of so many of the step.
        """
        for kept in (self.bank, self.threshold):
            if kept is not None:
                kept.take_in(parts, of, world)

    def _with_more(self, pairs: Pairs, told: Told, shared: Shared, batch: Batch) -> Pairs:
        """Also against the bank once its warm-up is over, boxes without what they showed, and false texts."""
        boxes = self._emptied(pairs, shared, batch) if self.options.masked else []
        phrases = [false_phrases(told, pairs, batch)] if self.options.false_phrases else []
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

    def _told(self, shared: Shared, batch: Batch, named: Phrases, boxes: Tensor, usable: Tensor) -> Told:
        """The whole texts, each with what is false of the first box that it names."""
        whole = named.whole
        text, linked = named.text[whole], named.linked[whole] & usable
        negatives = torch.cat([batch.neg_text[text], batch.swapped[text]], 1)
        candidates = torch.cat([text[:, None], negatives.clamp(min=0)], 1)
        return Told(
            text=candidates,
            vector=_unit(self.phrase(shared.text[candidates, 0])),
            box=torch.cat([boxes, boxes.new_zeros(1, boxes.shape[1])])[first(linked)],
            real=torch.cat([linked.any(1, keepdim=True), negatives >= 0], 1),
            linked=linked[:, usable],
        )


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors.float(), dim=-1)


@torch.no_grad()
def _one_of_each(pairs: Pairs, batch: Batch) -> Tensor:
    """One named box of each picture that has one, a function of the stream's position."""
    generator = torch.Generator().manual_seed(seed64("emptied", batch.position, *batch.keys[:1]) >> 1)
    pictures = torch.arange(len(batch.keys), device=pairs.row.device)
    its_own = pictures[:, None] == batch.box_picture[pairs.row]
    chosen = draw(torch.zeros(its_own.shape, device=its_own.device), its_own & pairs.linked.any(0), generator)
    return chosen[chosen >= 0]


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
