"""Image–text matching: whether a text is true of a picture, told by attention between their tokens.

Legend: T texts, P pictures, N pairs, V views.
"""

import torch
from torch import Tensor, nn

from training.batch import KINDS, Batch
from training.config import Itm, Sources
from training.fusion.cross_attention import CrossLayer
from training.heads.itm_pairs import ELSEWHERE, MASKED, OWN, SIDES, Pairs, sample
from training.modules.attention import ByPicture, CrossBlock
from training.objectives.losses import class_balance, focal
from training.objectives.outcome import Outcome
from training.trunk import masked_view
from training.trunk.trunk import Shared

LEARNED = {"both": (0, 1, 2), "picture": (0, 1), "text": (0, 2)}  # setting → sides that the loss takes
BALANCED_WORTH = 8 / 3  # answers a text: ½ own + ¼ each side varies by ¼ + 1/16 + 1/16 of what one does


class ItmHead(nn.Module):
    """Text states and picture tokens → is it true, read off the text's summary."""

    def __init__(self, hidden: int, heads: int, layers: int, dropout: float, options: Itm) -> None:
        super().__init__()
        self.options = options
        self.blocks = nn.ModuleList(CrossBlock(hidden, heads, dropout) for _ in range(layers))
        self.back = CrossLayer(hidden, heads, dropout) if options.two_way else None
        self.norm = nn.LayerNorm(hidden)
        self.classify = nn.Linear(hidden, 2)

    def forward(self, shared: Shared, batch: Batch) -> Outcome:
        """Focal loss over the pairs; the accuracy on each side, and their balance: half true, half false."""
        sources = self.options.sources
        pairs = sample(batch, shared.contrasted, sources, shared.look.columns if shared.look else ())
        seen, picture = with_views(shared, batch, pairs) if sources.masked else (shared, pairs.picture)
        label = (pairs.side == OWN).long()
        logits = self.logits(seen, pairs.text, picture).float()
        right = logits.argmax(1) == label
        measures = accuracy(right, pairs.side) | _by_source(
            right, batch.kind[pairs.text], pairs.view, sources
        )
        return Outcome((self._loss(logits, label, pairs.side),), measures)

    def _loss(self, logits: Tensor, label: Tensor, side: Tensor) -> Tensor:
        """Over the pairs of the sides that are learned."""
        learned = torch.isin(side, side.new_tensor(LEARNED[self.options.sides]))
        logits, label = logits[learned], label[learned]
        weight = class_balance(label, 2) if self.options.balance else None
        return focal(logits, label, self.options.gamma, weight)

    def logits(self, shared: Shared, text: Tensor, picture: Tensor) -> Tensor:
        """[N,2] false and true, of any pairs of the batch's texts and pictures."""
        x, mask = shared.text[text], shared.text_mask[text]
        tokens, visible, rows = self.read(shared, text, picture)
        where = ByPicture(rows, len(tokens))
        for block in self.blocks:  # of the last one only the summary is used
            queries = 1 if block is self.blocks[-1] else x.shape[1]
            x = block(x, mask, tokens, visible, where, queries)
        logits: Tensor = self.classify(self.norm(x[:, 0]))
        return logits

    def read(self, shared: Shared, text: Tensor, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Picture tokens and which are visible, as the texts find them, and the row of each pair among them.

        One row a picture; one a pair where the picture reads the text too.
        """
        if self.back is None:
            return shared.picture, shared.visible, picture
        tokens = self.back(shared.picture[picture], shared.text[text], shared.text_mask[text])
        return tokens, shared.visible[picture], torch.arange(len(picture), device=picture.device)


def with_views(shared: Shared, batch: Batch, pairs: Pairs) -> tuple[Shared, Tensor]:
    """The pictures with the views that the pairs ask for behind them, and the picture [N] of each pair."""
    masked = pairs.view == MASKED
    text, other = pairs.text[masked], pairs.other[masked]
    if not len(text):
        return shared, pairs.picture
    view = len(shared.picture) + torch.arange(len(text), device=text.device)
    picture = pairs.picture.clone()
    picture[masked] = view
    picture[pairs.view == ELSEWHERE] = (view + len(text)).repeat(2)  # with the text, then with the wrong one
    return masked_view.look(shared, batch, text, other), picture


def accuracy(right: Tensor, side: Tensor) -> dict[str, tuple[Tensor, int]]:
    """side → (right ones, pairs); `balanced`, over the texts, is nothing where a side is empty, and one half
    by chance. A side alone has no chance: who always says the same reaches all of one. `paired`: the texts
    that have wrong partners, of all.
    """
    found = {name: right[side == number] for number, name in enumerate(SIDES)}
    measures = {name: (rows.sum(), len(rows)) for name, rows in found.items()}
    own, picture, text = (rows.float().mean() for rows in found.values())
    count = len(found["wrong_text"])
    balanced = (own + 0.5 * (picture + text)) / 2 * count if count else right.new_zeros((), dtype=torch.float)
    return {
        "balanced": (balanced, count),
        "balanced_chance": (right.new_full((), 0.5 * count, dtype=torch.float), count),
        **measures,
        "paired": (side.new_tensor(count), len(found["own"])),
    }


def _by_source(right: Tensor, kind: Tensor, view: Tensor, sources: Sources) -> dict[str, tuple[Tensor, int]]:
    """The accuracy on pairs of a source that is not of the batch, swaps by what was changed."""
    found = {"masked": right[view == MASKED]} if sources.masked else {}
    if sources.swapped:
        found |= {f"swapped/{name}": right[kind == number] for number, name in enumerate(KINDS)}
    return {name: (rows.sum(), len(rows)) for name, rows in found.items() if len(rows)}
