"""Any vision transformer of timm, by its name there: CLS first where it has one, register tokens dropped.

That includes the vision towers of CLIP, SigLIP, DINO and DINOv2. A dense map is without CLIP's projection.
"""

from difflib import get_close_matches
from typing import Any

import timm
import torch
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer as PlainTransformer
from torch import Tensor, nn

from contract import params
from contract.column import Output
from contract.errors import ParamsError
from data_pipeline.features.token_encoder import TokenEncoder, unmixed

VERSION = 1  # raise by hand when the same weights and pixels would give other features
OUTPUTS = ("tokens", "prenorm", "dense")
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
    encoder = VisionTransformer(_create(settings, where), settings.output, where)
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
    """A timm ViT up to its final norm."""

    def __init__(self, model: Any, output: Output, where: str) -> None:
        super().__init__()
        if not hasattr(model, "num_prefix_tokens") or not hasattr(model, "patch_embed"):
            raise ParamsError(
                where, "is no plain vision transformer", expected="a vit_… or deit_… model of timm"
            )
        _check_output(model, output, where)
        self.model, self.output = model, output
        self.prefix = int(model.num_prefix_tokens)  # CLS and registers
        self.has_cls = output != "dense" and getattr(model, "cls_token", None) is not None
        self.grid, _ = model.patch_embed.grid_size
        self.patch, _ = model.patch_embed.patch_size
        self.width = int(model.num_features)
        self.mean, self.std = model.pretrained_cfg["mean"], model.pretrained_cfg["std"]

    def forward(self, pixels: Tensor) -> Tensor:
        if self.output == "tokens":
            return self._without_registers(self.model.forward_features(pixels))
        if self.output == "prenorm":
            return self._without_registers(self._behind_block(pixels, -1))
        cells = self._behind_block(pixels, -2)[:, self.prefix :]
        dense: Tensor = self.model.norm(unmixed(self.model.blocks[-1], cells))
        return dense

    def _behind_block(self, pixels: Tensor, block: int) -> Tensor:
        """[B,N,D] as a block leaves them, all prefix tokens first. block: counted from the end."""
        (found,) = self.model.forward_intermediates(
            pixels,
            indices=[len(self.model.blocks) + block],
            return_prefix_tokens=True,
            stop_early=True,
            output_fmt="NLC",
            intermediates_only=True,
        )
        return torch.cat(found[::-1], dim=1) if self.prefix else found

    def _without_registers(self, tokens: Tensor) -> Tensor:
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


def _check_output(model: Any, output: Output, where: str) -> None:
    """ParamsError where the model has not what the output needs."""
    if output == "tokens":
        return
    if isinstance(model.norm, nn.Identity):
        expected = "output: tokens, which here are those before any norm"
        raise ParamsError(where, "norms its pooled vector, not its tokens", found=output, expected=expected)
    if output == "dense" and not (isinstance(model, PlainTransformer) and len(model.blocks) > 1):
        expected = "timm's VisionTransformer, of two blocks or more"
        raise ParamsError(where, "has no dense map", found=type(model).__name__, expected=expected)
