"""Transformed pictures → tokens of a frozen encoder: normalise, run, pool. Used for shards and single files.

B pictures, S the side of the input, G of the model's own grid, g of the stored one, N = g² (+ 1), D channels.
"""

import pkgutil
from collections.abc import Collection
from dataclasses import dataclass
from importlib import import_module

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from contract.column import Output
from contract.errors import MismatchError, ParamsError, unknown_name
from contract.manifest import FeatureManifest, WeightsFacts
from contract.params import Encoder, convert
from data_pipeline.features import encoder_weights, encoders
from data_pipeline.features.token_encoder import TokenEncoder
from data_pipeline.pictures.picture_files import Pixels

Tokens = NDArray[np.float32]


@dataclass(frozen=True)
class Frozen:
    """An encoder that is ready to run. version: of its code, raised by hand."""

    settings: Encoder
    model: TokenEncoder
    weights: WeightsFacts
    version: int

    @property
    def tokens(self) -> int:
        """N, tokens stored per picture."""
        return self.settings.grid**2 + self.model.has_cls


def load(settings: Encoder) -> Frozen:
    """Build the encoder and fill in its weights.

    ParamsError for settings that do not fit, MismatchError for weights of another model.
    """
    known = [module.name for module in pkgutil.iter_modules(encoders.__path__)]
    if settings.architecture not in known:
        raise unknown_name("params.yaml", "architecture", settings.architecture, known)
    architecture = import_module(f"data_pipeline.features.encoders.{settings.architecture}")
    check_output(settings, architecture.OUTPUTS)
    with torch.random.fork_rng(devices=[]):
        encoder_weights.seed(settings.model)
        model: TokenEncoder = architecture.build(settings)
    check_grid(settings, model.grid)
    weights = encoder_weights.settle(model, settings.weights)
    return Frozen(settings, model.eval().requires_grad_(False), weights, architecture.VERSION)


def check_output(settings: Encoder, known: Collection[Output]) -> None:
    """Not every architecture gives every kind of token."""
    if settings.output not in known:
        where = f"encoder {settings.model}, output"
        expected = f"{' or '.join(known)}, of architecture {settings.architecture}"
        raise ParamsError(where, "is not to be had", found=settings.output, expected=expected)


def check_grid(settings: Encoder, own: int) -> None:
    """Pooling is exact: whole blocks of k × k cells, or none at all."""
    if own % settings.grid:
        raise ParamsError(
            f"encoder {settings.model}",
            "grid does not divide the model's own grid",
            found=f"grid: {settings.grid}",
            expected=f"a divisor of {own} (size: {settings.size})",
        )


def load_as(manifest: FeatureManifest) -> Frozen:
    """The encoder that a feature column was made with. MismatchError where it is another one by now."""
    frozen = load(encoder_settings(manifest))
    _check_same(manifest, "weights", frozen.weights.sha256, manifest.weights.sha256)
    _check_same(manifest, "configuration", frozen.model.config, manifest.config)
    return frozen


def _check_same(manifest: FeatureManifest, what: str, found: str, expected: str) -> None:
    if found != expected:
        raise MismatchError(
            f"encoder {manifest.encoder}, weights {manifest.weights.source}",
            f"its {what} changed since the features were made",
            found=found,
            expected=expected,
            fix="fetch the encoder again (dvc pull), or encode all pictures anew (dvc repro)",
        )


def encoder_settings(manifest: FeatureManifest) -> Encoder:
    """The entry of params.yaml that a manifest keeps."""
    return convert(manifest.settings, Encoder, f"manifest of {manifest.encoder}, settings")


@torch.inference_mode()
def encode(frozen: Frozen, inputs_BSS3: Pixels) -> Tokens:
    """Transformed pictures → tokens float32 [B,N,D], CLS first where the encoder has one."""
    tokens = frozen.model(normalise(torch.from_numpy(inputs_BSS3), frozen.model))
    return pool(tokens, frozen.model.has_cls, frozen.settings.grid).numpy()


def normalise(inputs_BSS3: Tensor, model: TokenEncoder) -> Tensor:
    """uint8 [B,S,S,3] → float32 [B,3,S,S] by the model's own mean and deviation."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (model.mean, model.std))
    pixels = inputs_BSS3.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return pixels.div_(255).sub_(mean).div_(std)


def pool(tokens_BND: Tensor, has_cls: bool, side: int) -> Tensor:
    """Average blocks of cells to a side × side grid; the CLS token stays as it is."""
    cls, cells = tokens_BND[:, :has_cls], tokens_BND[:, has_cls:]
    own = round(cells.shape[1] ** 0.5)
    if own == side:
        return tokens_BND
    square = cells.transpose(1, 2).unflatten(2, (own, own))
    pooled = functional.avg_pool2d(square, own // side).flatten(2).transpose(1, 2)
    return torch.cat([cls, pooled], dim=1)
