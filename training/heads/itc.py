"""Image–text contrast: each text against all pictures of the batch, each picture against all its texts.

Pictures that are in the batch because they were mined are columns like any other.

Legend: T texts, P pictures, H hidden, W width, Q queries, C columns.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.batch import Batch
from training.config import Itc
from training.modules.logit_scale import LogitScale
from training.modules.pooling import VisionAggregator
from training.objectives.contrast import Contrasted, Identity, Vectors, identify, positives, unjudged
from training.objectives.losses import equal_mass, info_nce, sigmoid, soften
from training.objectives.memory_bank import MemoryBank, More
from training.objectives.outcome import Outcome
from training.objectives.similarity import similarities
from training.trunk.trunk import Shared


class ItcHead(nn.Module):
    """Unit vectors of texts and pictures, and their symmetric contrast. step: optimizer steps done, which the
    loop tells; the warm-up of the bank and the ramp of α count it.
    """

    def __init__(self, hidden: int, cls: bool, options: Itc) -> None:
        super().__init__()
        self.options, self.step = options, 0
        self.picture = VisionAggregator(hidden, options.width, cls)
        self.text = nn.Linear(hidden, options.width)
        self.scale = LogitScale(options.scale.init, options.scale.most, options.scale.learned)
        self.bias = nn.Parameter(torch.tensor(options.bias)) if options.loss == "sigmoid" else None
        self.bank = MemoryBank(options.bank.slots, options.width) if options.bank else None

    def vectors(self, shared: Shared, batch: Batch) -> Vectors:
        """Of the task's texts and of all pictures, also those without a text."""
        rows = batch.rows["itc"]
        return Vectors(
            F.normalize(self.text(shared.text[rows, 0]).float(), dim=1),
            F.normalize(self.picture(shared.picture, shared.visible).float(), dim=1),
            identify(batch, rows),
        )

    def forward(self, shared: Shared, batch: Batch) -> Outcome:
        """The loss of one batch."""
        assert shared.contrasted is not None
        return self.contrast(shared.contrasted)

    def contrast(self, found: Contrasted) -> Outcome:
        """Half texts → pictures, half pictures → texts. In training the keys then go into the bank."""
        online, keys = found.online, found.keys
        positive = positives(online.identity)
        ignored = unjudged(online.identity) & ~positive
        pictures, texts = self._banked(online.identity)
        scaled = found.scale * online.text, found.scale * keys.text
        there = self._side(*scaled, keys.picture, positive, ignored, pictures, found.bias)
        scaled = found.scale * online.picture, found.scale * keys.picture
        back = self._side(*scaled, keys.text, positive.T, ignored.T, texts, found.bias)
        if self.bank is not None and self.training:
            self.bank.enqueue(keys)
        return Outcome((0.5 * (there + back),), self._measures(online, positive, ignored))

    def _banked(self, of: Identity) -> tuple[More | None, More | None]:
        """The bank's pictures and texts, once its warm-up is over. It takes no part in evaluation."""
        warm = self.options.bank is not None and self.step >= self.options.bank.warmup
        if self.bank is None or not warm or not self.training:
            return None, None
        return self.bank.more_pictures(of), self.bank.more_texts(of)

    def _side(
        self,
        query: Tensor,
        teacher: Tensor,
        columns: Tensor,
        positive: Tensor,
        ignored: Tensor,
        more: More | None,
        bias: Tensor | None,
    ) -> Tensor:
        """Scaled queries [Q,W], and the teacher's of them, against columns [C,W] and the bank's."""
        if more is not None:
            columns, ignored = torch.cat([columns, more.vectors]), torch.cat([ignored, more.ignored], dim=1)
            positive = F.pad(positive, (0, len(more.vectors)))
        if bias is not None:
            return sigmoid(similarities(query, columns) + bias, positive, ignored)
        target = equal_mass(positive)
        alpha = alpha_at(self.options.alpha, self.step, self.options.alpha_ramp)
        if alpha and self.training:
            target = soften(target, similarities(teacher, columns), alpha, ignored)
        return info_nce(similarities(query, columns), target, ignored)

    def _measures(self, online: Vectors, positive: Tensor, ignored: Tensor) -> dict[str, tuple[Tensor, int]]:
        """R@1 within the batch both ways, the scale, and how far apart it draws the cosines."""
        cosine = similarities(online.text, online.picture).detach()
        scale = self.scale().detach()
        spread = cosine.max() - cosine.min() if cosine.numel() else cosine.sum()
        return {
            **recall("picture_of_text", cosine, positive, ignored),
            **recall("text_of_picture", cosine.T, positive.T, ignored.T),
            "scale": (scale, 1),
            "logit_range": (scale * spread, 1),
        }


def alpha_at(alpha: float, step: int, ramp: int) -> float:
    """The teacher's share of the target: from 0 in a straight line to `alpha` in `ramp` optimizer steps."""
    return alpha * min(1.0, step / ramp)


def recall(name: str, scores: Tensor, positive: Tensor, ignored: Tensor) -> dict[str, tuple[Tensor, int]]:
    """R@1: rows whose best column is positive, of those that have a positive; and its chance."""
    judged, asked = positive | ~ignored, positive.any(1)
    if not scores.shape[1]:
        return {name: (scores.sum(), 0), f"{name}_chance": (scores.sum(), 0)}
    best = scores.masked_fill(~judged, -math.inf).argmax(1, keepdim=True)
    right = positive.gather(1, best)[:, 0] & asked
    guessed, count = positive.sum(1) / judged.sum(1).clamp(min=1), int(asked.sum())
    return {name: (right.sum(), count), f"{name}_chance": (guessed.sum(), count)}
