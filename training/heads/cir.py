"""Composed retrieval: a picture and an edit → the picture that the edit makes of it (SPRC, ICLR 2024; with
`static_bank` the second stage of SPN4CIR).

Legend: E edits, L words of one with its summary, P pictures, N their tokens, K queries, H hidden, W width.
"""

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.batch import Batch
from training.config import Cir
from training.fusion.gated import GatedFusionModule
from training.modules.attention import ByPicture, CrossBlock, SelfBlock
from training.modules.logit_scale import LogitScale
from training.modules.pooling import masked_mean
from training.objectives.losses import info_nce
from training.objectives.outcome import Outcome
from training.objectives.similarity import similarities
from training.objectives.static_bank import Gallery, StaticBank
from training.trunk.trunk import Shared

START = 0.1  # where the gate's residual scale starts


def gallery(batch: Batch) -> Gallery:
    """The pictures of the batch, as the edits of it see them.

    No negative is: the reference, a soft target, nor any row that shows the same picture as one of these or
    as the target. All others are, the rest of the image set as the hard ones among them.
    """
    edits, same = batch.rows["cir"], batch.same_picture()
    target, reference = batch.target[edits], batch.text_picture[edits]
    soft = same.new_zeros(len(batch.tokens), len(same))
    soft[batch.soft[:, 0], batch.soft[:, 1]] = True
    alike = same[target] | same[reference] | (soft[edits].float() @ same.float() > 0)
    hard = F.one_hot(target, len(same)).bool()
    members = F.pad(same, (0, 0, 0, 1))[batch.members[edits]].any(1)  # -1 is the row of none
    return Gallery(hard, alike & ~hard, members)


class Reader(nn.Module):
    """A copy of what a head reads pictures by, for the reference alone."""

    def __init__(self, head: "CirHead") -> None:
        super().__init__()
        self.queries = nn.Parameter(head.queries.detach().clone())
        self.read, self.norm_read = deepcopy(head.read), deepcopy(head.norm_read)

    @torch.no_grad()
    def follow(self, head: "CirHead") -> None:
        """Read as the head does."""
        self.queries.copy_(head.queries)
        self.read.load_state_dict(head.read.state_dict())
        self.norm_read.load_state_dict(head.norm_read.state_dict())


class CirHead(nn.Module):
    """Learned queries read a picture: with the text they become one query, else K vectors of a target.

    reader, bank: of the second stage, in which all that makes a target's vectors is frozen.
    """

    def __init__(self, hidden: int, heads: int, layers: int, dropout: float, options: Cir) -> None:
        super().__init__()
        self.options = options
        self.queries = nn.Parameter(torch.randn(options.queries, hidden) * 0.02)
        self.prompt = nn.Parameter(torch.randn(options.queries, hidden) * 0.02)
        self.read = nn.ModuleList(CrossBlock(hidden, heads, dropout) for _ in range(layers))
        self.compose = SelfBlock(hidden, heads, dropout)
        self.norm_read, self.norm_compose = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.query, self.target = nn.Linear(hidden, options.width), nn.Linear(hidden, options.width)
        self.gate = GatedFusionModule(hidden, START) if options.gated else None
        self.scale = LogitScale(options.scale.init, options.scale.most, options.scale.learned)
        self.reader = self.bank = None
        if options.static_bank:
            self.reader, self.bank = Reader(self), StaticBank(options.queries, options.width)
            for frozen in (self.queries, self.prompt, self.read, self.norm_read, self.target):
                frozen.requires_grad_(False)

    def forward(self, shared: Shared, batch: Batch) -> Outcome:
        """L_itc + rtc · L_rtc + align · L_align, from the query to the target only."""
        edits = batch.rows["cir"]
        if not len(edits):
            return _nothing(next(weights for weights in self.parameters() if weights.requires_grad))
        if self.bank is not None and self.training:
            return self._against_bank(self.bank, shared, batch)
        text, mask = shared.text[edits], shared.text_mask[edits]
        found, targets = gallery(batch), self.targets(shared.picture, shared.visible)
        seen = self._reference(shared, edits, text, mask)
        query, _ = self._composed(seen, text, mask)
        blind, prompt = self._composed(self.prompt.expand(len(edits), -1, -1), text, mask)
        scores, options = self.scores(query, targets), self.options
        itc, rtc = (
            info_nce(self.scale() * made, found.target.float(), found.ignored)
            for made in (scores, self.scores(blind, targets))
        )
        wanted = prompt.mean(1) if options.target == "sample" else self.prompt.mean(0).expand(len(edits), -1)
        loss = itc + options.rtc * rtc + options.align * alignment(seen.mean(1), wanted)
        return Outcome((loss,), recalls(scores.detach(), found))

    def _against_bank(self, bank: StaticBank, shared: Shared, batch: Batch) -> Outcome:
        """L_itc alone, with all pictures of the bank."""
        found = bank.gallery(batch)
        scores = self.scores(self.queries_of(shared, batch.rows["cir"]), bank.vectors)
        loss = info_nce(self.scale() * scores, found.target.float(), found.ignored)
        return Outcome((loss,), recalls(scores.detach(), found))

    def queries_of(self, shared: Shared, edits: Tensor) -> Tensor:
        """[E,W] unit vectors of the edits, rows of the texts."""
        text, mask = shared.text[edits], shared.text_mask[edits]
        query, _ = self._composed(self._reference(shared, edits, text, mask), text, mask)
        return query

    def targets(self, picture: Tensor, visible: Tensor) -> Tensor:
        """[P,K,W] unit vectors of pictures [P,N,H], each by itself."""
        own = torch.arange(len(picture), device=picture.device)
        alone = self.queries.expand(len(picture), -1, -1)
        mask = torch.ones(alone.shape[:2], dtype=torch.bool, device=picture.device)
        states = self._read(self, alone, mask, picture, visible, own)
        return F.normalize(self.target(states).float(), dim=-1)

    @staticmethod
    def scores(query_EW: Tensor, targets_PKW: Tensor) -> Tensor:
        """[E,P] the best cosine of a query with any of a picture's vectors."""
        found = similarities(query_EW, targets_PKW.flatten(0, 1))
        return found.unflatten(1, targets_PKW.shape[:2]).amax(2)

    def _reference(self, shared: Shared, edits: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """[E,K,H] what the queries make of the reference and the text."""
        picture, visible, rows, by = shared.picture, shared.visible, shared.rows[edits], self.reader or self
        if self.gate is not None:
            words = masked_mean(text[:, 1:], mask[:, 1:])
            picture, visible = self.gate(picture, words, rows=rows), visible[rows]
            rows = torch.arange(len(rows), device=rows.device)
        queries = by.queries.expand(len(edits), -1, -1)
        both = torch.cat([queries, text], 1)
        return self._read(by, both, F.pad(mask, (queries.shape[1], 0), value=True), picture, visible, rows)

    @staticmethod
    def _read(
        by: "CirHead | Reader", x: Tensor, mask: Tensor, picture: Tensor, visible: Tensor, rows: Tensor
    ) -> Tensor:
        """[E,K,H] states of the queries, which stand first in x, once they saw the pictures of `rows`."""
        where = ByPicture(rows, len(picture))
        for block in by.read:
            queries = len(by.queries) if block is by.read[-1] else x.shape[1]
            x = block(x, mask, picture, visible, where, queries)
        states: Tensor = by.norm_read(x)
        return states

    def _composed(self, prompt: Tensor, text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The unit query [E,W], and the prompt [E,K,H] once it has read the text."""
        x = torch.cat([text, prompt.to(text.dtype)], 1)
        x = self.norm_compose(self.compose(x, F.pad(mask, (0, prompt.shape[1]), value=True)))
        return F.normalize(self.query(x[:, 0]).float(), dim=-1), x[:, text.shape[1] :]


def _nothing(parameter: Tensor) -> Outcome:
    """Of a batch without an edit, such as another task may bring: a loss of zero, and nothing counted."""
    none = (parameter.new_zeros(()), 0)
    return Outcome(
        (0 * parameter.sum(),), dict.fromkeys(("R@1", "R@1_chance", "R_s@1", "R_s@1_chance"), none)
    )


def alignment(seen_EH: Tensor, wanted_EH: Tensor) -> Tensor:
    """L_align: mean squared distance to what is wanted, which gets no gradient."""
    return (seen_EH.float() - wanted_EH.float().detach()).square().mean()


def recalls(scores_EP: Tensor, found: Gallery) -> dict[str, tuple[Tensor, int]]:
    """R@1 among the pictures of the batch, and R_s@1 within the image set, over the edits that have one; and
    the chance of each.
    """
    best = (scores_EP * found.target).sum(1, keepdim=True)
    beaten = (scores_EP >= best) & ~found.target
    asks, judged = (found.members & ~found.target).any(1), ~found.ignored | found.target
    first = ~(beaten & ~found.ignored).any(1)
    first_of_set = ~(beaten & found.members & ~found.ignored).any(1) & asks
    guess, guess_of_set = (1 / among.sum(1) for among in (judged, judged & (found.members | found.target)))
    sets = int(asks.sum())
    return {
        "R@1": (first.sum(), len(first)),
        "R@1_chance": (guess.sum(), len(first)),
        "R_s@1": (first_of_set.sum(), sets),
        "R_s@1_chance": (guess_of_set[asks].sum(), sets),
    }
