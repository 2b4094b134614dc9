"""What all tasks share: texts and pictures as tokens of one width, fused where the settings say so.

Legend: T texts, L their tokens, P pictures, N picture tokens, H hidden.
"""

import torch
from msgspec import Struct
from torch import Tensor, nn

from training.batch import Batch
from training.fusion.registry import Kind, Shape
from training.modules.pooling import masked_mean
from training.objectives.contrast import Contrasted
from training.trunk.picture import PictureEncoder
from training.trunk.pretrained_text import PretrainedText
from training.trunk.text import TextEncoder


class Shared(Struct):
    """What every head may look at: text [T,1+L,H] and picture tokens [B,N,H], with their masks.

    rows [T]: the picture of each text among the B; B is P, or T where texts are fused into their picture.
    contrasted: the vectors of texts and pictures, where itc is among the tasks. look: what read the
    pictures, for views of them that a head makes.
    """

    text: Tensor
    text_mask: Tensor
    picture: Tensor
    visible: Tensor
    rows: Tensor
    contrasted: Contrasted | None = None
    look: PictureEncoder | None = None


class TextFusion(nn.Module):
    """Each text with the tokens of its picture: by a fusion whose second input is the text.

    A fusion that attends gives a sum of layers, and a norm follows as in PictureEncoder. One that does not
    gives the picture's tokens, which have their norm, and what it adds to them.
    """

    def __init__(self, kind: Kind, shape: Shape) -> None:
        super().__init__()
        self.kind, self.fusion = kind, kind.build(shape)
        self.norm = nn.LayerNorm(shape.hidden) if kind.attends else nn.Identity()

    def forward(self, picture: Tensor, visible: Tensor, rows: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """picture [P,N,H], text [T,1+L,H] of the pictures `rows` → [T,N,H]. The summary token is no word."""
        words, mask = text[:, 1:], mask[:, 1:]
        if self.kind.lays:
            fused = self.fusion(picture, masked_mean(words, mask), rows=rows)
        else:
            own, seen = picture[rows], visible[rows]
            if self.kind.aligned:
                words, mask = masked_mean(words, mask)[:, None].expand_as(own), seen
            fused = self.fusion(own, words, seen, mask)
        normed: Tensor = self.norm(fused)
        return normed


class Trunk(nn.Module):
    """Batch → Shared. text_fusion: None where the second input, if any, is a column."""

    def __init__(
        self,
        text: TextEncoder | PretrainedText,
        picture: PictureEncoder,
        text_fusion: TextFusion | None,
    ) -> None:
        super().__init__()
        self.text, self.picture, self.text_fusion = text, picture, text_fusion

    @property
    def fuses(self) -> bool:
        """Whether there are two inputs, and so a fusion of them."""
        return self.picture.fusion is not None or self.text_fusion is not None

    def forward(self, batch: Batch) -> Shared:
        """Encode every text and picture once."""
        text, mask = self.text(batch.tokens, batch.token_mask)
        picture, visible = self.picture(batch)
        if self.text_fusion is None:
            return Shared(text, mask, picture, visible, batch.text_picture, look=self.picture)
        fused = self.text_fusion(picture, visible, batch.text_picture, text, mask)
        rows = torch.arange(len(text), device=text.device)
        return Shared(text, mask, fused, visible[batch.text_picture], rows)
