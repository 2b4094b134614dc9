"""Image–text matching: whether a text is true of a picture, told by attention between their tokens.

Of each text three pairs: (text, its picture), (text, a wrong picture), (a wrong text, its picture). A text
that lacks one of the wrong ones gives neither, so both sides come in equal counts.

Legend: T texts, P pictures, N pairs, R rows, C candidates.
"""

import torch
from msgspec import Struct
from torch import Tensor, nn

from contract.seeds import seed64
from training.batch import Batch
from training.config import Itm, Sources
from training.modules.attention import ByPicture, CrossBlock
from training.objectives.contrast import Contrasted, identify, unjudged
from training.objectives.losses import class_balance, focal
from training.objectives.outcome import Outcome
from training.objectives.pairing import mined, negatives
from training.trunk.trunk import Shared

SIDES = ("own", "wrong_picture", "wrong_text")
OWN = 0  # the side that is true


class Pairs(Struct):
    """text [N] into the batch's T, picture [N] into its P, side [N] into SIDES."""

    text: Tensor
    picture: Tensor
    side: Tensor


class ItmHead(nn.Module):
    """Text states and picture tokens → is it true, read off the text's summary."""

    def __init__(self, hidden: int, heads: int, layers: int, dropout: float, options: Itm) -> None:
        super().__init__()
        self.options = options
        self.blocks = nn.ModuleList(CrossBlock(hidden, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)
        self.classify = nn.Linear(hidden, 2)

    def forward(self, shared: Shared, batch: Batch) -> Outcome:
        """Focal loss over the pairs; the accuracy on each side, and their balance: half true, half false."""
        pairs = sample(batch, shared.contrasted, self.options.sources)
        label = (pairs.side == OWN).long()
        logits = self.logits(shared, pairs.text, pairs.picture).float()
        weight = class_balance(label, 2) if self.options.balance else None
        return Outcome(
            focal(logits, label, self.options.gamma, weight), _accuracy(logits.argmax(1) == label, pairs.side)
        )

    def logits(self, shared: Shared, text: Tensor, picture: Tensor) -> Tensor:
        """[N,2] false and true, of any pairs of the batch's texts and pictures."""
        x, mask = shared.text[text], shared.text_mask[text]
        where = ByPicture(picture, len(shared.picture))
        for block in self.blocks:  # of the last one only the summary is used
            queries = 1 if block is self.blocks[-1] else x.shape[1]
            x = block(x, mask, shared.picture, shared.visible, where, queries)
        logits: Tensor = self.classify(self.norm(x[:, 0]))
        return logits


@torch.no_grad()
def sample(batch: Batch, found: Contrasted | None, sources: Sources) -> Pairs:
    """The pairs of a batch, a function of its position and of itc's scores, if there are any."""
    generator = torch.Generator().manual_seed(seed64("itm", batch.position, *batch.keys[:1]) >> 1)
    rows = batch.rows["itm"]
    own, wrong_TP = batch.text_picture[rows], ~unjudged(identify(batch, rows))
    scores_TP = None if found is None else found.scale * found.online.text @ found.online.picture.T
    mined_TP = mined(batch.neg_picture[rows], len(batch.keys))
    picture = negatives(scores_TP, wrong_TP, mined_TP, sources, generator)
    back = None if scores_TP is None else scores_TP.T[own]
    text = negatives(back, wrong_TP.T[own], mined_TP[:, own], sources, generator)
    both = (picture >= 0) & (text >= 0)
    side = torch.cat([torch.full_like(own, OWN), torch.ones_like(own[both]), torch.full_like(own[both], 2)])
    texts = torch.cat([rows, rows[both], rows[text[both]]])
    return Pairs(texts, torch.cat([own, picture[both], own[both]]), side)


def _accuracy(right: Tensor, side: Tensor) -> dict[str, tuple[Tensor, int]]:
    """side → (right ones, pairs); `balanced`, over the texts, is nothing where a side is empty."""
    found = {name: right[side == number] for number, name in enumerate(SIDES)}
    measures = {name: (rows.sum(), len(rows)) for name, rows in found.items()}
    own, picture, text = (rows.float().mean() for rows in found.values())
    count = len(found["wrong_text"])
    balanced = (own + 0.5 * (picture + text)) / 2 * count if count else right.new_zeros((), dtype=torch.float)
    return {"balanced": (balanced, count), **measures}
