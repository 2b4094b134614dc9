"""The `train` section of params.yaml, typed and strict. Configuration stays here, at the door."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta, Struct

from contract import params
from contract.errors import ParamsError

Positive = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
AboveZero = Annotated[float, Meta(gt=0.0)]
TEXT = "text"  # among the inputs: the text itself, and no column


class Strict(Struct, forbid_unknown_fields=True, frozen=True):
    """A section in which an unknown key is an error."""


class Vqa(Strict, frozen=True):
    """Answers to questions. label_smoothing: share of the target that is spread over all answers."""

    weight: AboveZero = 1.0
    label_smoothing: Share = 0.0


class Tasks(Strict, frozen=True):
    """The tasks of a run, each with its weight in the loss; what is not named is not trained."""

    vqa: Vqa | None = None

    @property
    def chosen(self) -> dict[str, Any]:
        """Name → settings, in the order above, whatever that of the file."""
        named = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: options for name, options in named.items() if options is not None}


class Fusion(Strict, frozen=True):
    """How two inputs become one stream of picture tokens (training.fusion). alpha: of `gated`, where its
    residual scale starts. layers: of `cross_attention` and `difnet`; separate, repeats: Lf and T of `difnet`.
    """

    kind: str = "gated"
    alpha: float = 0.1
    layers: Positive = 2
    separate: Annotated[int, Meta(ge=0)] = 1
    repeats: Annotated[int, Meta(ge=0)] = 2


class Model(Strict, frozen=True):
    """Widths and depths of everything that is trained."""

    hidden: Positive = 256
    heads: Positive = 4
    text_layers: Positive = 2
    head_layers: Positive = 2
    max_tokens: Positive = 48  # longer texts are cut; the log counts them
    dropout: Share = 0.1


class Masking(Strict, frozen=True):
    """Masks drawn per epoch and picture. kind: training.masking; fill: training.filling.

    ratio: share of the picture's cells that is hidden; ratio_end: at the end of training, if it changes on
    the way.
    """

    kind: str = "random"
    ratio: Share = 0.0
    ratio_end: Share | None = None
    fill: str = "drop"


class Optim(Strict, frozen=True):
    """Batches and steps. batch: pictures per optimizer step, over all accumulated parts."""

    epochs: AboveZero = 10
    batch: Positive = 64
    accumulate: Positive = 1
    texts_per_image: Positive | Literal["all"] = "all"
    learning_rate: AboveZero = 1e-3
    weight_decay: Annotated[float, Meta(ge=0.0)] = 0.05
    warmup: Share = 0.05
    clip: AboveZero = 1.0


class Train(Strict, frozen=True):
    """All of `train`. inputs: role → feature column; the first gives the grid; none is the blind model. The
    second may be `text`: each text is then fused with its picture.

    development: share of the training pictures that is never trained on and chooses the best checkpoint.
    """

    tasks: Tasks = Tasks(vqa=Vqa())
    inputs: dict[str, str] = {}
    fusion: Fusion = Fusion()
    model: Model = Model()
    masking: Masking = Masking()
    optim: Optim = Optim()
    development: Share = 0.05
    best: str | None = None  # "vqa/accuracy": what chooses the best checkpoint; by default of the first task
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint_every: Positive = 200  # optimizer steps; an epoch's end makes one too
    log_every: Positive = 10  # optimizer steps
    threads: Positive = 2  # of the reader
    ahead: Positive = 2  # batches read ahead

    @property
    def columns(self) -> list[str]:
        """The feature columns among the inputs."""
        return [name for name in self.inputs.values() if name != TEXT]


def load(path: Path, overrides: list[str]) -> tuple[Train, int]:
    """`train` of params.yaml with `--set` overrides, and the seed. ParamsError names every miss.

    `inputs` must be said, if only as `{}`: a run that never looks at a picture is not made by leaving it out.
    """
    content = params.read_yaml(path)
    params.check_keys(content, params.Params, str(path))
    settings = content.get("train") or {}
    if not isinstance(settings, dict):
        raise ParamsError(f"{path}: train", "holds no keys", found=settings)
    for override in overrides:
        _apply(settings, override)
    _check_finite(settings, f"{path}: train")
    if "inputs" not in settings:
        raise ParamsError(
            f"{path}: train.inputs", "no feature column is named", fix="name one, or say --blind"
        )
    train = params.convert(settings, Train, f"{path}: train")
    if not train.tasks.chosen:
        raise ParamsError(
            f"{path}: train.tasks", "names no task", expected=" or ".join(Tasks.__struct_fields__)
        )
    if train.optim.batch % train.optim.accumulate:
        raise ParamsError(
            f"{path}: train.optim",
            "batch is not a multiple of accumulate",
            found=f"batch {train.optim.batch}, accumulate {train.optim.accumulate}",
        )
    return train, params.convert(content.get("seed", 0), int, f"{path}: seed")


def _apply(settings: dict[str, Any], override: str) -> None:
    """`optim.epochs=2` into the nested mapping."""
    place, equals, value = override.partition("=")
    if not equals:
        raise ParamsError(f"--set {override}", "is not key=value", expected="for example optim.epochs=2")
    *parents, last = place.split(".")
    for parent in parents:
        settings = settings.setdefault(parent, {})
        if not isinstance(settings, dict):
            raise ParamsError(f"--set {override}", f"'{parent}' holds no keys")
    try:
        settings[last] = params.parse_yaml(value)
    except yaml.YAMLError as error:
        raise ParamsError(f"--set {override}", f"is not YAML: {' '.join(str(error).split())}") from None


def _check_finite(value: object, place: str) -> None:
    """No setting is infinite or not a number, which YAML can write and no bound of a type refuses."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ParamsError(place, "is not a finite number", found=value)
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_finite(inner, f"{place}.{key}")


def to_builtins(train: Train) -> dict[str, Any]:
    """Plain data for a run's config.json; `from_builtins` is its inverse."""
    plain: dict[str, Any] = msgspec.to_builtins(train)
    return plain


def from_builtins(content: object, where: str) -> Train:
    """A run's settings as it stored them."""
    return params.convert(content, Train, where)
