"""The model of a run: the trunk that all tasks share, and a head for each.

Modules take plain arguments; this file alone reads the settings.
"""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from contract.errors import ParamsError
from training.batch import Batch
from training.config import TEXT, Model, Train
from training.distributed import World
from training.fusion import registry
from training.fusion.registry import Shape
from training.heads.itc import ItcHead
from training.heads.region import RegionHead
from training.heads.vqa import VqaHead
from training.model.gradient_cache import Cached
from training.model.momentum import MomentumEncoder
from training.model.task_checks import check
from training.model.tasks import TASKS, Sizes
from training.modules.filling import DROP
from training.modules.logit_scale import LogitScale
from training.modules.recompute import recompute
from training.objectives.contrast import Contrasted
from training.objectives.outcome import Outcome
from training.trunk import pretrained_text
from training.trunk.picture import Column, PictureEncoder
from training.trunk.pretrained_text import PretrainedText
from training.trunk.text import TextEncoder
from training.trunk.trunk import Shared, TextFusion, Trunk


class FusionModel(nn.Module):
    """trunk: batch → what heads may look at. heads: one per task of the run, in their order."""

    def __init__(self, trunk: Trunk, heads: dict[str, nn.Module], momentum: float | None = None) -> None:
        super().__init__()
        self.trunk, self.heads = trunk, nn.ModuleDict(heads)
        self.momentum_encoder = None
        if self.itc is not None and momentum is not None:
            self.momentum_encoder = MomentumEncoder(trunk, self.itc, momentum)

    @property
    def itc(self) -> ItcHead | None:
        """The head whose vectors other tasks look at, if the run has it."""
        return cast(ItcHead, self.heads["itc"]) if "itc" in self.heads else None

    def forward(self, batch: Batch, cached: Cached | None = None) -> dict[str, Outcome]:
        """Task → its loss and measures. cached: of the contrast over all of the step's parts."""
        shared = self._shared(batch, keyed=cached is None)
        heads = [(name, head) for name, head in self.heads.items() if cached is None or head is not self.itc]
        outcomes = {name: head(shared, batch) for name, head in heads}
        if cached is not None and shared.contrasted is not None:
            outcomes["itc"] = cached.outcome(shared.contrasted)
        return outcomes

    def contrasted(self, batch: Batch) -> Contrasted:
        """What itc contrasts, of one part of a step."""
        found = self._shared(batch, keyed=True).contrasted
        assert found is not None
        return found

    def begin_step(self, step: int) -> None:
        """Before the optimizer step of this number: the momentum encoder follows, heads that count go on."""
        for head in self.heads.values():
            if isinstance(head, ItcHead | RegionHead):
                head.step = step
        if self.momentum_encoder is not None and self.itc is not None:
            self.momentum_encoder.follow(self.trunk, self.itc, step)

    def end_parts(self, parts: Sequence[int], of: int, world: World) -> None:
        """After the last part of a step: what they leave for the next. parts: numbers of those run here."""
        for head in self.heads.values():
            if isinstance(head, RegionHead):
                head.take_in(parts, of, world)

    def limit_scales(self) -> None:
        """After the optimizer step, and once weights of another run are in: no scale is above its limit."""
        for module in self.modules():
            if isinstance(module, LogitScale):
                module.limit()

    def _shared(self, batch: Batch, keyed: bool) -> Shared:
        """keyed: with keys of the momentum encoder, for which cached gradients have no use any more."""
        shared: Shared = self.trunk(batch)
        if self.itc is not None:
            online = self.itc.vectors(shared, batch)
            slow = self.momentum_encoder if self.training and keyed else None
            keys = online if slow is None else slow(batch)
            shared.contrasted = Contrasted(online, keys, self.itc.scale(), self.itc.bias)
        return shared

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
    check(settings)
    size, fusion = settings.model, settings.fusion
    kind = registry.kind(fusion.kind)
    shape = Shape(
        size.hidden, size.heads, size.dropout, fusion.alpha, fusion.layers, fusion.separate, fusion.repeats
    )
    kind.check(shape)
    text = _text(size, vocabulary)
    picture = PictureEncoder(
        columns,
        size.hidden,
        kind,
        shape,
        settings.masking.fill,
        noise=settings.augment.feature_noise,
        token_dropout=settings.augment.token_dropout,
        compact=_compact(settings),
    )
    with_text = TextFusion(kind, shape) if TEXT in settings.inputs.values() else None
    sizes = Sizes(size.hidden, size.heads, size.head_layers, size.dropout, answers, next(iter(columns), None))
    heads = {name: TASKS[name].head(sizes, options) for name, options in settings.tasks.chosen.items()}
    if settings.tasks.cir and settings.tasks.cir.static_bank:
        picture.requires_grad_(False)
    itc = settings.tasks.itc
    model = FusionModel(Trunk(text, picture, with_text), heads, itc.momentum if itc else None)
    if size.checkpointing:
        recompute(model)
    return model


def _text(size: Model, vocabulary: int) -> TextEncoder | PretrainedText:
    if size.text.kind == "hf":
        return pretrained_text.build(size.text, size.hidden, size.max_tokens, size.checkpointing)
    return TextEncoder(vocabulary, size.hidden, size.heads, size.text_layers, size.max_tokens, size.dropout)


def _compact(settings: Train) -> bool:
    """Whether tokens are hidden that nothing attends to, and no head asks for tokens by place or views."""
    hides = settings.masking.hides or settings.augment.token_dropout > 0
    by_place = any(TASKS[name].cells for name in settings.tasks.chosen)
    views = settings.tasks.hides_named
    return hides and settings.masking.fill == DROP and not (by_place or views)


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
