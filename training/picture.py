"""Frozen features of one or two encoders → one stream of picture tokens on the first encoder's grid.

Legend: P pictures, N tokens of the first column, M of another, D its width, H hidden.
"""

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor, nn

from contract.geometry import affine, cell_centres, regrid
from contract.manifest import FeatureManifest
from training.attention import sincos_2d
from training.fusion import registry


class Column(Struct, frozen=True):
    """The shape of a feature column: its grid, CLS and width, and the transform of its pictures."""

    name: str
    grid: int
    cls: bool
    width: int
    transform: str


def column(name: str, manifest: FeatureManifest) -> Column:
    """What the model needs to know of a column."""
    return Column(name, manifest.grid, manifest.cls, manifest.width, manifest.transform)


class FeatureNormalizer(nn.Module):
    """LayerNorm over the frozen channels, then Linear D → H, in float32 whatever the column's dtype."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm, self.project = nn.LayerNorm(width), nn.Linear(width, hidden)

    def forward(self, features: Tensor) -> Tensor:
        """[P,N,D] → [P,N,H]."""
        return self.project(self.norm(features.float()))


class Resampler(nn.Module):
    """Reads one column at the cells of another, bilinearly, through coordinates of the original picture.

    Hidden source cells do not leak: weights are renormalised over the visible ones, and a cell that sees
    none is hidden. A missing CLS is the mean of the visible tokens. Both transforms must be the same for
    every picture (squash), so the weights are constants: one matrix, for the backward of a gather adds up
    shared cells in whatever order its threads come.
    """

    weights: Tensor  # [N,M] of the cells, without CLS

    def __init__(self, source: Column, onto: Column) -> None:
        super().__init__()
        self.source_cls, self.onto_cls = source.cls, onto.cls
        self.register_buffer("weights", _resampling(source, onto), persistent=False)

    def forward(self, tokens: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """tokens [P,M,H], visible [P,M] → [P,N,H] (zero where hidden), [P,N]."""
        grid, seen = tokens[:, self.source_cls :], visible[:, self.source_cls :]
        total = seen.to(self.weights.dtype) @ self.weights.T
        read = self.weights.to(tokens.dtype) @ (grid * seen[..., None])
        out = read / total.clamp(min=1e-6)[..., None].to(tokens.dtype)
        out_visible = total > 1e-6
        if not self.onto_cls:
            return out, out_visible
        summary = tokens[:, :1] if self.source_cls else _mean(grid, seen)
        return torch.cat([summary, out], 1), torch.cat([seen.any(1, keepdim=True), out_visible], 1)


def _resampling(source: Column, onto: Column) -> Tensor:
    """[N,M]: what each cell of `onto` takes of each cell of `source`; a row sums to 1, or 0 outside it."""
    cells, weights, inside = regrid(
        affine(source.transform, 1, 1), source.grid, affine(onto.transform, 1, 1), onto.grid
    )
    matrix = np.zeros((onto.grid**2, source.grid**2), np.float32)
    np.add.at(matrix, (np.arange(onto.grid**2)[:, None], cells), weights * inside[:, None])
    return torch.from_numpy(matrix)


def _mean(tokens: Tensor, visible: Tensor) -> Tensor:
    """Mean of the visible tokens [P,1,H]; zero where none is."""
    weight = visible.to(tokens.dtype)[..., None]
    return (tokens * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1)


class PictureEncoder(nn.Module):
    """The first column gives the grid; a second is resampled onto it and fused. Positions are added last.

    With no column at all there is one learned token: the model that never looks.
    """

    def __init__(self, columns: list[Column], hidden: int, fusion: str, alpha: float) -> None:
        super().__init__()
        self.names = [column.name for column in columns]
        self.normalizers = nn.ModuleList(FeatureNormalizer(column.width, hidden) for column in columns)
        self.resamplers = nn.ModuleList(Resampler(column, columns[0]) for column in columns[1:])
        self.fusion = registry.build(fusion if len(columns) > 1 else "none", hidden, alpha)
        self.norm = nn.LayerNorm(hidden)
        self.blank = nn.Parameter(torch.zeros(1, 1, hidden)) if not columns else None
        self.register_buffer("positions", _positions(columns, hidden), persistent=False)

    def forward(
        self, features: dict[str, Tensor], visible: dict[str, Tensor], pictures: int
    ) -> tuple[Tensor, Tensor]:
        """Fused tokens [P,N,H] and which of them are visible [P,N]."""
        if self.blank is not None:
            tokens = self.blank.expand(pictures, 1, -1)
            return tokens, torch.ones(pictures, 1, dtype=torch.bool, device=tokens.device)
        streams = [
            normalize(features[name]) for name, normalize in zip(self.names, self.normalizers, strict=True)
        ]
        seen = visible[self.names[0]]
        others = [
            resample(stream, visible[name])
            for resample, stream, name in zip(self.resamplers, streams[1:], self.names[1:], strict=True)
        ]
        fused = self.fusion(streams[0], *(stream * mask[..., None] for stream, mask in others))
        return self.norm(fused) + self.positions, seen


def _positions(columns: list[Column], hidden: int) -> Tensor:
    """[N,H] codes of the cells' places in the original picture; zero for CLS."""
    if not columns:
        return torch.zeros(1, hidden)
    first = columns[0]
    places = affine(first.transform, 1, 1).invert(cell_centres(first.grid))
    codes = sincos_2d(torch.from_numpy(places), hidden)
    return torch.cat([torch.zeros(1, hidden), codes]) if first.cls else codes
