"""The model of a run: the trunk that all tasks share, and a head for each.

Modules take plain arguments; this file alone reads the settings.
"""

from torch import Tensor, nn

from contract.errors import ParamsError
from training.batch import Batch
from training.config import TEXT, Train
from training.fusion import registry
from training.fusion.registry import Shape
from training.heads.vqa import VqaHead
from training.outcome import Outcome
from training.picture import Column, PictureEncoder
from training.tasks import TASKS, Sizes
from training.text import TextEncoder
from training.trunk import TextFusion, Trunk


class FusionModel(nn.Module):
    """trunk: batch → what heads may look at. heads: one per task of the run, in their order."""

    def __init__(self, trunk: Trunk, heads: dict[str, nn.Module]) -> None:
        super().__init__()
        self.trunk, self.heads = trunk, nn.ModuleDict(heads)

    def forward(self, batch: Batch) -> dict[str, Outcome]:
        """Task → its loss and measures."""
        shared = self.trunk(batch)
        return {name: head(shared, batch) for name, head in self.heads.items()}

    def answer_logits(self, batch: Batch) -> Tensor:
        """[T,A] for the questions of the batch, `batch.rows["vqa"]`. ParamsError without that task."""
        if "vqa" not in self.heads:
            raise ParamsError("train.tasks", "this run answers no questions", found=", ".join(self.heads))
        head = self.heads["vqa"]
        assert isinstance(head, VqaHead)
        return head.logits(self.trunk(batch), batch)


def build(settings: Train, columns: list[Column], vocabulary: int, answers: int) -> FusionModel:
    """The model that the settings describe. ParamsError where they contradict each other."""
    _check(settings)
    size, fusion = settings.model, settings.fusion
    kind = registry.kind(fusion.kind)
    shape = Shape(
        size.hidden, size.heads, size.dropout, fusion.alpha, fusion.layers, fusion.separate, fusion.repeats
    )
    text = TextEncoder(vocabulary, size.hidden, size.heads, size.text_layers, size.max_tokens, size.dropout)
    picture = PictureEncoder(columns, size.hidden, kind, shape, settings.masking.fill)
    with_text = TextFusion(kind, shape) if TEXT in settings.inputs.values() else None
    sizes = Sizes(size.hidden, size.heads, size.head_layers, size.dropout, answers)
    heads = {name: TASKS[name].head(sizes, options) for name, options in settings.tasks.chosen.items()}
    return FusionModel(Trunk(text, picture, with_text), heads)


def _check(settings: Train) -> None:
    size, inputs = settings.model, list(settings.inputs.values())
    if size.hidden % (4 * size.heads):
        raise ParamsError(
            "train.model.hidden",
            "is not a multiple of 4 × heads",
            found=size.hidden,
            expected=f"k · {4 * size.heads}",
        )
    if len(inputs) > 2 or TEXT in inputs[:1]:
        expected = "a column, two columns, or a column and text"
        raise ParamsError("train.inputs", "cannot be fused", found=settings.inputs, expected=expected)
