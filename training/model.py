"""The model of a run: a text encoder and a picture encoder shared by all tasks, and a head for each.

Modules take plain arguments; this file alone reads the settings.
"""

from msgspec import Struct
from torch import Tensor, nn

from contract.errors import ParamsError
from training.batch import Batch
from training.config import Train
from training.heads.vqa import VqaHead
from training.picture import Column, PictureEncoder
from training.text import TextEncoder


class Shared(Struct):
    """What every head may look at. text [T,1+L,H], picture [P,N,H], with their masks."""

    text: Tensor
    text_mask: Tensor
    picture: Tensor
    visible: Tensor


class FusionModel(nn.Module):
    """Batch → logits or losses of each task, through one shared trunk."""

    def __init__(self, settings: Train, columns: list[Column], vocabulary: int, answers: int) -> None:
        super().__init__()
        size = settings.model
        self.text = TextEncoder(
            vocabulary, size.hidden, size.heads, size.text_layers, size.max_tokens, size.dropout
        )
        self.picture = PictureEncoder(columns, size.hidden, settings.fusion.kind, settings.fusion.alpha)
        self.vqa = VqaHead(size.hidden, size.heads, size.head_layers, answers, size.dropout)

    def trunk(self, batch: Batch) -> Shared:
        """Encode texts and pictures once for all heads."""
        text, text_mask = self.text(batch.tokens, batch.token_mask)
        picture, visible = self.picture(batch.features, batch.visible, len(batch.keys))
        return Shared(text, text_mask, picture, visible)

    def answer_logits(self, batch: Batch) -> Tensor:
        """[T, A] for every text of the batch, taken as a question."""
        shared = self.trunk(batch)
        return self.vqa(shared.text, shared.text_mask, shared.picture, shared.visible, batch.text_picture)


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
    if len(columns) > 2:
        raise ParamsError("train.inputs", "names more than two columns", found=[c.name for c in columns])
    return FusionModel(settings, columns, vocabulary, answers)
