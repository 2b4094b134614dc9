"""Vision towers of transformers: CLIP, BLIP, SigLIP and DINOv2, from a folder under weights/ or by hub name.

A folder holds config.json, preprocessor_config.json (mean and deviation) and, for weights "pretrained", the
weights file. B pictures, N tokens, D channels.
"""

from typing import Any

from msgspec import Struct
from torch import Tensor, nn

from contract import params
from contract.column import Output
from contract.errors import ParamsError, unknown_name
from data_pipeline.features import hub
from data_pipeline.features.token_encoder import TokenEncoder, unmixed

VERSION = 1  # raise by hand when the same weights and pixels would give other features
OUTPUTS = ("tokens", "prenorm", "dense")


class Tower(Struct, frozen=True):
    """Where a family keeps its parts. projected: the class that also holds the projection of a dense map.

    resizes: whether its positions are resampled on request only.
    """

    model: str
    layers: str = "encoder.layers"
    norm: str = "post_layernorm"
    has_cls: bool = True
    resizes: bool = True
    projected: str | None = None


CLIP = Tower("CLIPVisionModel", projected="CLIPVisionModelWithProjection")
BLIP = Tower("BlipVisionModel")
SIGLIP = Tower("SiglipVisionModel", has_cls=False)
DINOV2 = Tower("Dinov2Model", layers="encoder.layer", norm="layernorm", resizes=False)
TOWERS = {  # by `model_type` of config.json: of the whole model, or of the tower alone
    "clip": CLIP,
    "clip_vision_model": CLIP,
    "blip": BLIP,
    "blip_vision_model": BLIP,
    "siglip": SIGLIP,
    "siglip_vision_model": SIGLIP,
    "dinov2": DINOV2,
}


def build(settings: params.Encoder) -> TokenEncoder:
    """The tower, with its own weights if `weights` says "pretrained", else fresh ones.

    ParamsError where transformers is not installed, the model cannot be fetched, or the settings do not fit.
    """
    where = f"encoder {settings.model}"
    _check(settings, where)
    config, processor = _described(settings.model, where)
    if config.model_type not in TOWERS:
        raise unknown_name(where, "family", config.model_type, TOWERS)
    tower = TOWERS[config.model_type]
    config = _vision(config)
    if settings.size % config.patch_size:
        expected = f"a multiple of the patch, {config.patch_size}"
        raise ParamsError(where, "size does not fit the model", found=settings.size, expected=expected)
    model = _model(settings, tower, config, where)
    encoder = VisionTower(model, tower, settings.output, settings.size // config.patch_size)
    encoder.config = hub.hash_config(config)
    encoder.mean, encoder.std = (_channels(processor, name, where) for name in ("image_mean", "image_std"))
    return encoder


def _check(settings: params.Encoder, where: str) -> None:
    """What can be said without transformers."""
    if settings.options:
        raise ParamsError(where, "takes no options: config.json has them", found=settings.options)
    if settings.weights not in params.SOURCES:
        fix = "name its folder, or the model on the hub, as `model`, and say `weights: pretrained`"
        raise ParamsError(where, "takes no file of weights", found=settings.weights, fix=fix)
    hub.check_folder(settings.model, where)


def _described(model: str, where: str) -> tuple[Any, dict[str, Any]]:
    """The model's configuration and that of its pictures."""
    transformers = hub.transformers(where)
    try:
        config = transformers.AutoConfig.from_pretrained(model)
        processor, _ = transformers.ImageProcessingMixin.get_image_processor_dict(model)
    except (OSError, ValueError) as error:
        raise hub.unfetched(where, error) from None
    return config, processor


def _vision(config: Any) -> Any:
    """The tower's part of a configuration; CLIP's projection is as wide as the whole model says."""
    vision = getattr(config, "vision_config", config)
    if vision is not config and hasattr(vision, "projection_dim"):
        vision.projection_dim = config.projection_dim
    return vision


def _model(settings: params.Encoder, tower: Tower, config: Any, where: str) -> nn.Module:
    projected = tower.projected if settings.output == "dense" else None
    kind = getattr(hub.transformers(where), projected or tower.model)
    if settings.weights == "random":
        fresh: nn.Module = kind(config)
        return fresh
    names = None if projected else {r"^vision_model\.": ""}  # as the whole model calls it
    return hub.load(kind, settings.model, where, config=config, key_mapping=names)


def _channels(processor: dict[str, Any], name: str, where: str) -> tuple[float, float, float]:
    values = processor.get(name)
    if not isinstance(values, list | tuple) or len(values) != 3:
        raise ParamsError(where, f"preprocessor_config.json: {name}", found=values, expected="three numbers")
    red, green, blue = (float(value) for value in values)
    return red, green, blue


class VisionTower(TokenEncoder):
    """A tower up to its final norm; a dense map goes on through CLIP's projection."""

    def __init__(self, model: Any, tower: Tower, output: Output, grid: int) -> None:
        super().__init__()
        self.model, self.tower, self.output, self.grid = model, tower, output, grid
        self.projection = "visual_projection" if hasattr(model, "visual_projection") else None
        self.has_cls = tower.has_cls and output != "dense"
        self.width = int(model.config.projection_dim if self.projection else model.config.hidden_size)

    def forward(self, pixels: Tensor) -> Tensor:
        own = self.model.vision_model if self.projection else self.model
        resized = {"interpolate_pos_encoding": True} if self.tower.resizes else {}
        hidden = own(pixels, output_hidden_states=True, **resized).hidden_states  # behind each layer
        if self.output == "prenorm":
            return hidden[-1]
        norm = own.get_submodule(self.tower.norm)
        if self.output == "tokens":
            return norm(hidden[-1])
        last = own.get_submodule(self.tower.layers)[-1]
        cells = hidden[-2][:, int(self.tower.has_cls) :]
        dense = norm(unmixed(lambda tokens: last(tokens, attention_mask=None), cells))
        return self.model.visual_projection(dense) if self.projection else dense
