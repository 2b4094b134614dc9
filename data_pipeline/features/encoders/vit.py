"""Any vision transformer of timm, by its name there: CLS first where it has one, register tokens dropped."""

from difflib import get_close_matches
from typing import Any

import timm
import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from contract import params
from contract.errors import ParamsError
from data_pipeline.features.token_encoder import TokenEncoder

VERSION = 1  # raise by hand when the same weights and pixels would give other features
POSITIONS = "pos_embed"


def build(settings: params.Encoder) -> TokenEncoder:
    """The encoder, with published weights if `weights` says "pretrained", else fresh ones.

    ParamsError for an unknown model, option or size, and where the published weights cannot be fetched.
    """
    where = f"encoder {settings.model}"
    if not timm.is_model(settings.model):
        near = get_close_matches(settings.model, timm.list_models("*vit*"), n=1)
        raise ParamsError(
            where, "timm knows no such model", fix=f"did you mean '{near[0]}'?" if near else None
        )
    encoder = VisionTransformer(_create(settings, where), where)
    if encoder.grid * encoder.patch != settings.size:
        expected = f"a multiple of the patch, {encoder.patch}"
        raise ParamsError(where, "size does not fit the model", found=settings.size, expected=expected)
    return encoder


def _create(settings: params.Encoder, where: str) -> Any:
    pretrained = settings.weights == "pretrained"
    options = {"img_size": settings.size, "num_classes": 0} | settings.options
    try:
        return timm.create_model(settings.model, pretrained=pretrained, **options)
    except (TypeError, AssertionError) as error:
        raise ParamsError(where, f"cannot be built with these settings: {error}", found=options) from None
    except Exception as error:  # the hub's client raises errors of many kinds
        if not pretrained:
            raise
        fix = "fetch the model's file elsewhere (safetensors or .pth) and name it as `weights`"
        found = " ".join(str(error).split())[:200]
        raise ParamsError(where, "its published weights cannot be fetched", found=found, fix=fix) from None


class VisionTransformer(TokenEncoder):
    """A timm ViT up to and including its final norm."""

    def __init__(self, model: Any, where: str) -> None:
        super().__init__()
        if not hasattr(model, "num_prefix_tokens") or not hasattr(model, "patch_embed"):
            raise ParamsError(
                where, "is no plain vision transformer", expected="a vit_… or deit_… model of timm"
            )
        self.model = model
        self.prefix = int(model.num_prefix_tokens)  # CLS and registers
        self.has_cls = getattr(model, "cls_token", None) is not None
        self.grid, _ = model.patch_embed.grid_size
        self.patch, _ = model.patch_embed.patch_size
        self.width = int(model.num_features)
        self.mean, self.std = model.pretrained_cfg["mean"], model.pretrained_cfg["std"]

    def forward(self, pixels: Tensor) -> Tensor:
        tokens: Tensor = self.model.forward_features(pixels)
        cells = tokens[:, self.prefix :]
        return torch.cat([tokens[:, :1], cells], dim=1) if self.has_cls else cells

    def own_part(self, checkpoint: dict[str, Tensor]) -> dict[str, Tensor]:
        """A timm checkpoint without its classifier; positions are resampled to this size."""
        own = {f"model.{name.removeprefix('model.')}": value for name, value in checkpoint.items()}
        own = {name: value for name, value in own.items() if name.split(".")[1] not in ("head", "head_dist")}
        name = f"model.{POSITIONS}"
        positions = getattr(self.model, POSITIONS, None)
        if isinstance(positions, nn.Parameter) and name in own and own[name].shape[1] != positions.shape[1]:
            prefix = 0 if getattr(self.model, "no_embed_class", False) else self.prefix
            size = [self.grid, self.grid]
            own[name] = resample_abs_pos_embed(own[name], new_size=size, num_prefix_tokens=prefix)
        return own
