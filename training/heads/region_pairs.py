"""What region contrasts: phrases, the boxes that they name, and the texts that are false of these.

A phrase is a span of a text, or a whole text, that is linked to a box.

Legend: T texts, R boxes, S phrases, K negatives, F false texts, W width of the joint space.
"""

import torch
import torch.nn.functional as F
from msgspec import Struct
from torch import Tensor

from training.batch import Batch
from training.modules.regions import to_input
from training.objectives.memory_bank import More
from training.objectives.region_bank import Links
from training.objectives.similarity import similarities


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


class Told(Struct):
    """Whole texts of a box, S of them, each with K texts that are false of it: the true one stands first.

    text [S,1+K] rows of T; vector [S,1+K,W] of these and box [S,W], unit vectors; real [S,1+K]: there is such
    a text, and of the true one: the box can be seen; linked [S,R]: boxes that the true one names.
    """

    text: Tensor
    vector: Tensor
    box: Tensor
    real: Tensor
    linked: Tensor

    @property
    def cosine(self) -> Tensor:
        """[S,1+K] of the box with each text, in float32 as `similarities` are."""
        return (self.vector * self.box[:, None]).sum(2)

    @property
    def false(self) -> Tensor:
        """[S,K] the false texts of a box that can be seen."""
        return self.real[:, :1] & self.real[:, 1:]


def false_phrases(told: Told, pairs: Pairs, batch: Batch) -> More:
    """The false texts as phrases that name no box [R,F] (FG-CLIP 2).

    A box is not judged by what is false of another one of its picture, nor by words that name it.
    """
    row, _ = told.false.nonzero(as_tuple=True)
    text, vectors = told.text[:, 1:][told.false], told.vector[:, 1:][told.false]
    group = batch.group_ids()
    shown, asked = group[batch.box_picture[pairs.row]], group[batch.text_picture[text]]
    others = (shown[:, None] == asked) & ~told.linked[row].T
    named = torch.zeros(len(pairs.row), len(text), dtype=torch.int32, device=text.device)
    named.index_add_(0, pairs.links.box, (pairs.links.words[:, None] == batch.words[text]).int())
    return More(vectors, others | (named > 0))


def first(linked_SR: Tensor) -> Tensor:
    """[S] the first linked column, R where there is none."""
    columns = torch.arange(linked_SR.shape[1] + 1, device=linked_SR.device)
    return torch.where(F.pad(linked_SR, (0, 1), value=True), columns, len(columns)).amin(1)
