"""The model of a run: a text encoder and a picture encoder shared by all tasks, and a head for each.

Modules take plain arguments; this file alone reads the settings. Legend: T texts, L their tokens, P pictures,
N picture tokens, H hidden, A answers.
"""

import torch
from msgspec import Struct
from torch import Tensor, nn

from contract.errors import ParamsError
from training.batch import Batch
from training.config import TEXT, Train
from training.fusion import registry
from training.fusion.registry import Kind, Shape
from training.heads.vqa import VqaHead
from training.picture import Column, PictureEncoder
from training.pooling import masked_mean
from training.text import TextEncoder


class Shared(Struct):
    """What every head may look at: text [T,1+L,H] and picture tokens [B,N,H], with their masks.

    rows [T]: the picture of each text among the B; B is P, or T where texts are fused into their picture.
    """

    text: Tensor
    text_mask: Tensor
    picture: Tensor
    visible: Tensor
    rows: Tensor


class TextFusion(nn.Module):
    """Each text with the tokens of its picture: by a fusion whose second input is the text."""

    def __init__(self, kind: Kind, shape: Shape) -> None:
        super().__init__()
        self.pooled, self.fusion = kind.pooled, kind.build(shape)

    def forward(self, picture: Tensor, visible: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """picture [T,N,H] of each text, text [T,1+L,H] → [T,N,H]. The summary token is no word."""
        words, mask = text[:, 1:], mask[:, 1:]
        if self.pooled:
            words = masked_mean(words, mask)[:, None].expand_as(picture)
            mask = visible
        return self.fusion(picture, words, visible, mask)


class FusionModel(nn.Module):
    """Batch → logits or losses of each task, through one shared trunk."""

    def __init__(self, settings: Train, columns: list[Column], vocabulary: int, answers: int) -> None:
        super().__init__()
        size, fusion = settings.model, settings.fusion
        shape = Shape(
            size.hidden,
            size.heads,
            size.dropout,
            fusion.alpha,
            fusion.layers,
            fusion.separate,
            fusion.repeats,
        )
        kind = registry.kind(fusion.kind)
        self.text = TextEncoder(
            vocabulary, size.hidden, size.heads, size.text_layers, size.max_tokens, size.dropout
        )
        self.picture = PictureEncoder(columns, size.hidden, kind, shape, settings.masking.fill)
        self.text_fusion = TextFusion(kind, shape) if TEXT in settings.inputs.values() else None
        self.vqa = VqaHead(size.hidden, size.heads, size.head_layers, answers, size.dropout)

    def trunk(self, batch: Batch) -> Shared:
        """Encode texts and pictures once for all heads."""
        text, mask = self.text(batch.tokens, batch.token_mask)
        picture, visible = self.picture(batch)
        if self.text_fusion is None:
            return Shared(text, mask, picture, visible, batch.text_picture)
        own, seen = picture[batch.text_picture], visible[batch.text_picture]
        rows = torch.arange(len(text), device=text.device)
        return Shared(text, mask, self.text_fusion(own, seen, text, mask), seen, rows)

    def answer_logits(self, batch: Batch) -> Tensor:
        """[T, A] for every text of the batch, taken as a question."""
        shared = self.trunk(batch)
        return self.vqa(shared.text, shared.text_mask, shared.picture, shared.visible, shared.rows)


def build(settings: Train, columns: list[Column], vocabulary: int, answers: int) -> FusionModel:
    """The model that the settings describe. ParamsError where they contradict each other."""
    size = settings.model
    if size.hidden % (4 * size.heads):
        raise ParamsError(
            "train.model.hidden",
            "is not a multiple of 4 × heads",
            found=size.hidden,
            expected=f"k · {4 * size.heads}",
        )
    inputs = list(settings.inputs.values())
    if len(inputs) > 2 or TEXT in inputs[:1]:
        expected = "a column, two columns, or a column and text"
        raise ParamsError("train.inputs", "cannot be fused", found=settings.inputs, expected=expected)
    return FusionModel(settings, columns, vocabulary, answers)
