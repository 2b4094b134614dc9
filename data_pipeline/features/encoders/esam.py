"""EfficientSAM's image encoder (Xiong et al. 2023), Ti and S. Parameter names are those of the checkpoints.

A plain ViT without CLS output, then a convolutional neck. B pictures, G cells a side, D channels.
"""

import torch
from msgspec import Struct, structs
from torch import Tensor, nn
from torch.nn import functional

from contract import params
from contract.errors import ParamsError, unknown_name
from data_pipeline.features.token_encoder import IMAGENET_MEAN, IMAGENET_STD, TokenEncoder

VERSION = 1  # raise by hand when the same weights and pixels would give other features
OUTPUTS = ("tokens",)  # behind the neck
PATCH = 16
PRETRAINED_GRID = 224 // PATCH  # positions were learned at 224 pixels, with a place for a CLS token
EPSILON = 1e-6
PREFIX = "image_encoder."  # in a checkpoint of the whole of EfficientSAM


class Shape(Struct, frozen=True, forbid_unknown_fields=True):
    """The model's `options` in params.yaml; by default those of the published model."""

    embed_dim: params.Positive
    num_heads: params.Positive
    depth: params.Positive = 12
    neck_dim: params.Positive = 256


MODELS = {
    "efficient_sam_vitt": Shape(embed_dim=192, num_heads=3),
    "efficient_sam_vits": Shape(embed_dim=384, num_heads=6),
}


def build(settings: params.Encoder) -> TokenEncoder:
    """The encoder with fresh weights. ParamsError for an unknown model, option, or size."""
    where = f"encoder {settings.model}"
    if settings.model not in MODELS:
        raise unknown_name("params.yaml", "EfficientSAM model", settings.model, MODELS)
    if settings.weights == "pretrained":
        fix = "fetch its file from github.com/yformer/EfficientSAM (folder weights), and name that"
        raise ParamsError(
            where, "its weights cannot be fetched by name", found="weights: pretrained", fix=fix
        )
    if settings.size % PATCH:
        raise ParamsError(
            where, "size is not a multiple of the patch", found=settings.size, expected=f"k · {PATCH}"
        )
    shape = params.convert(
        structs.asdict(MODELS[settings.model]) | settings.options, Shape, f"{where}, options"
    )
    if shape.embed_dim % shape.num_heads:
        raise ParamsError(where, "embed_dim is not a multiple of num_heads", found=settings.options)
    return ImageEncoder(shape, settings.size // PATCH)


class ImageEncoder(TokenEncoder):
    """`image_encoder` of EfficientSAM; the neck's map [B,D,G,G] leaves as tokens [B,G²,D]."""

    has_cls = False
    mean, std = IMAGENET_MEAN, IMAGENET_STD

    def __init__(self, shape: Shape, grid: int) -> None:
        super().__init__()
        self.grid, self.width = grid, shape.neck_dim
        self.patch_embed = PatchEmbedding(shape.embed_dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, PRETRAINED_GRID**2 + 1, shape.embed_dim))
        self.blocks = nn.ModuleList(Block(shape.embed_dim, shape.num_heads) for _ in range(shape.depth))
        self.neck = nn.Sequential(
            nn.Conv2d(shape.embed_dim, shape.neck_dim, 1, bias=False),
            ChannelNorm(shape.neck_dim),
            nn.Conv2d(shape.neck_dim, shape.neck_dim, 3, padding=1, bias=False),
            ChannelNorm(shape.neck_dim),
        )
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, pixels: Tensor) -> Tensor:
        tokens = self.patch_embed(pixels).flatten(2).transpose(1, 2) + self.positions()
        for block in self.blocks:
            tokens = block(tokens)
        map_BDGG = tokens.transpose(1, 2).unflatten(2, (self.grid, self.grid))
        neck: Tensor = self.neck(map_BDGG)
        return neck.flatten(2).transpose(1, 2)

    def positions(self) -> Tensor:
        """[1,G²,D]: the learned positions without the CLS place, resampled to this grid."""
        learned = self.pos_embed[:, 1:]
        if self.grid == PRETRAINED_GRID:
            return learned
        square = learned.transpose(1, 2).unflatten(2, (PRETRAINED_GRID, PRETRAINED_GRID))
        resized = functional.interpolate(square, (self.grid, self.grid), mode="bicubic", align_corners=False)
        return resized.flatten(2).transpose(1, 2)

    def own_part(self, checkpoint: dict[str, Tensor]) -> dict[str, Tensor]:
        """The image encoder's entries, if this is a checkpoint of the whole model."""
        own = {
            name.removeprefix(PREFIX): value for name, value in checkpoint.items() if name.startswith(PREFIX)
        }
        return own or checkpoint


class PatchEmbedding(nn.Module):
    """Each patch to a vector: [B,3,S,S] → [B,D,G,G]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, stride=PATCH)

    def forward(self, pixels: Tensor) -> Tensor:
        patches: Tensor = self.proj(pixels)
        return patches


class Block(nn.Module):
    """Pre-norm transformer block over [B,N,D]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, EPSILON), Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width, EPSILON), Mlp(width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        mixed: Tensor = tokens + self.mlp(self.norm2(tokens))
        return mixed


class Attention(nn.Module):
    """Self-attention; queries, keys and values come from one layer, in this order."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        parts = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [3,B,heads,N,d]
        query, key, value = parts.unbind()
        read = functional.scaled_dot_product_attention(query, key, value)
        mixed: Tensor = self.proj(read.transpose(1, 2).flatten(2))
        return mixed


class Mlp(nn.Module):
    """Two layers, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        changed: Tensor = self.fc2(functional.gelu(self.fc1(tokens)))
        return changed


class ChannelNorm(nn.Module):
    """Layer norm over the channels of [B,D,H,W]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, map_BDHW: Tensor) -> Tensor:
        last = map_BDHW.movedim(1, -1)
        return functional.layer_norm(last, self.weight.shape, self.weight, self.bias, EPSILON).movedim(-1, 1)
