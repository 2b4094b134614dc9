"""Frozen features of one or two encoders → one stream of picture tokens on the first encoder's grid.

Legend: P pictures, N tokens of the first column, M of another, D its width, H hidden.
"""

import torch
from msgspec import Struct
from torch import Tensor, nn

from contract.geometry import cell_centres
from contract.manifest import FeatureManifest
from training.batch import Batch
from training.fusion.registry import Kind, Shape
from training.modules.attention import sincos_2d
from training.modules.augmentation import FeatureNoise, TokenDropout
from training.modules.compaction import All, Kept
from training.modules.filling import DROP, Filling
from training.modules.pooling import masked_mean

ColumnTokens = tuple[
    Kept | All, Tensor, Tensor
]  # what goes on of a column: which, its tokens, which may be looked at


class Column(Struct, frozen=True):
    """The shape of a feature column: its grid, CLS and width."""

    name: str
    grid: int
    cls: bool
    width: int


def column(name: str, manifest: FeatureManifest) -> Column:
    """What the model needs to know of a column."""
    return Column(name, manifest.grid, manifest.cls, manifest.width)


class FeatureNormalizer(nn.Module):
    """LayerNorm over the frozen channels, then Linear D → H, in float32 whatever the column's dtype.

    noise: on the normalised channels, in training.
    """

    def __init__(self, width: int, hidden: int, noise: float = 0.0) -> None:
        super().__init__()
        self.norm, self.noise = nn.LayerNorm(width), FeatureNoise(noise)
        self.project = nn.Linear(width, hidden)

    def forward(self, features: Tensor) -> Tensor:
        """[P,N,D] → [P,N,H]."""
        return self.project(self.noise(self.norm(features.float())))


class Resampler(nn.Module):
    """Reads one column at the cells of another, bilinearly, through coordinates of the original picture.

    Hidden source cells do not leak: weights are renormalised over the visible ones, and a cell that sees
    none, or lies outside the source's input, is hidden. A missing CLS is the mean of the visible tokens.
    Both maps are axis-aligned, so reading is two matrix products, over rows and over columns; the backward
    of a gather would add up shared cells in whatever order its threads come.
    """

    def __init__(self, source: Column, onto: Column) -> None:
        super().__init__()
        self.source, self.onto = source, onto

    def forward(
        self, tokens: Tensor, visible: Tensor, source_place: Tensor, onto_place: Tensor
    ) -> tuple[Tensor, Tensor]:
        """tokens [P,M,H], visible [P,M], places [P,4] → [P,N,H] (zero where hidden), [P,N].

        A place is (scale x, scale y, shift x, shift y): the original picture's [0, 1]² → a column's input.
        """
        side, grid = self.source.grid, tokens[:, self.source.cls :]
        seen = visible[:, self.source.cls :]
        across, down = axis_weights(source_place, side, onto_place, self.onto.grid)
        weight = seen.to(across.dtype).unflatten(1, (side, side))
        total = (down @ weight @ across.mT).flatten(1)
        square = (grid * seen[..., None]).unflatten(1, (side, side))
        rows = (down.to(grid.dtype) @ square.flatten(2)).unflatten(2, (side, -1))
        out = (across.to(grid.dtype)[:, None] @ rows).flatten(1, 2)
        out = out / total.clamp(min=1e-6)[..., None].to(grid.dtype)
        out_visible = total > 1e-6
        if not self.onto.cls:
            return out, out_visible
        summary = tokens[:, :1] if self.source.cls else masked_mean(grid, seen)[:, None]
        return torch.cat([summary, out], 1), torch.cat([seen.any(1, keepdim=True), out_visible], 1)


def axis_weights(source: Tensor, grid: int, onto: Tensor, onto_grid: int) -> tuple[Tensor, Tensor]:
    """Bilinear weights [P,onto_grid,grid] along x and along y, of places [P,4]; a row outside is zero.

    The rule of `contract.geometry.bilinear_weights` (`align_corners=False`), an axis at a time.
    """
    steps = (torch.arange(onto_grid, dtype=torch.float64, device=source.device) + 0.5) / onto_grid
    source, onto = source.double(), onto.double()
    original = (steps - onto[:, 2:, None]) / onto[:, :2, None]  # [P,2,onto_grid]
    at = original * source[:, :2, None] + source[:, 2:, None]
    inside = (at >= 0) & (at <= 1)
    cell = (at * grid - 0.5).clamp(0, grid - 1)
    distance = (cell[..., None] - torch.arange(grid, device=source.device)).abs()
    weights = ((1 - distance).clamp(min=0) * inside[..., None]).float()
    return weights[:, 0], weights[:, 1]


class PictureEncoder(nn.Module):
    """The first column gives the grid; a second is resampled onto it and fused. Positions are added last.

    With no column at all there is one learned token: the model that never looks. noise, token_dropout: see
    training.modules.augmentation. compact: of each picture only the tokens that may be looked at are computed
    and given, so that a token's number no longer tells its place.
    """

    positions: Tensor  # [N,H]

    def __init__(
        self,
        columns: list[Column],
        hidden: int,
        fusion: Kind,
        shape: Shape,
        fill: str = DROP,
        *,
        noise: float = 0.0,
        token_dropout: float = 0.0,
        compact: bool = False,
    ) -> None:
        super().__init__()
        self.columns = columns
        self.names, self.compact = [column.name for column in columns], compact
        self.normalizers = nn.ModuleList(FeatureNormalizer(column.width, hidden, noise) for column in columns)
        self.fillings = nn.ModuleList(Filling(fill, hidden) for _ in columns)
        self.dropouts = nn.ModuleList(TokenDropout(token_dropout, column.cls) for column in columns)
        self.resamplers = nn.ModuleList(Resampler(column, columns[0]) for column in columns[1:])
        self.fusion = fusion.build(shape) if len(columns) > 1 else None
        self.attends, self.aligned = fusion.attends, fusion.aligned
        self.norm = nn.LayerNorm(hidden)
        self.blank = nn.Parameter(torch.zeros(1, 1, hidden)) if not columns else None
        self.register_buffer("positions", _positions(columns, hidden), persistent=False)

    def forward(self, batch: Batch, fused: bool = True) -> tuple[Tensor, Tensor]:
        """Fused tokens [P,N,H] and which of them may be looked at [P,N]; [P,V,H] and [P,V] if compact.

        fused: False gives the first column's alone, as they would be without a second.
        """
        if self.blank is not None:
            tokens = self.blank.expand(len(batch.keys), 1, -1)
            return tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        streams = [
            self._stream(batch, *parts)
            for parts in zip(self.columns, self.normalizers, self.dropouts, self.fillings, strict=True)
        ]
        kept, tokens, seen = streams[0]
        if fused:
            tokens = self._join(batch, streams)
        return self.norm(tokens) + kept.codes(self.positions), seen

    def _stream(
        self, batch: Batch, column: Column, normalize: nn.Module, drop: nn.Module, fill: nn.Module
    ) -> ColumnTokens:
        """A column's tokens that go on, what its mask hides replaced, and which may be looked at."""
        visible = drop(batch.visible[column.name])
        kept = Kept(visible, column.cls) if self.compact else All()
        tokens = normalize(kept.take(batch.tokens_of(column.name)))
        filled, seen = fill(tokens, kept.take(visible), kept.take(batch.hidden[column.name]))
        return kept, filled, seen

    def _join(self, batch: Batch, streams: list[ColumnTokens]) -> Tensor:
        """The first stream with the others, read at its places, fused into it."""
        first, *others = self.names
        kept, tokens, seen = streams[0]
        for name, (own, *stream), resample in zip(others, streams[1:], self.resamplers, strict=True):
            second, mask = resample(*map(own.put_back, stream), batch.place[name], batch.place[first])
            tokens = self._fuse(kept, tokens, second, seen, mask)
        return tokens

    def _fuse(self, kept: Kept | All, v: Tensor, c: Tensor, v_mask: Tensor, c_mask: Tensor) -> Tensor:
        """v: the tokens that go on, c [P,N,H]; what attends to c reads it also in places where v has none."""
        assert self.fusion is not None
        if self.attends:
            v, c = v + kept.codes(self.positions), c + self.positions
        c = c * c_mask[..., None]
        if self.attends and self.aligned:
            return kept.take(self.fusion(kept.put_back(v), c, kept.put_back(v_mask), c_mask))
        if self.aligned:
            c, c_mask = kept.take(c), kept.take(c_mask)
        fused: Tensor = self.fusion(v, c, v_mask, c_mask)
        return fused


def _positions(columns: list[Column], hidden: int) -> Tensor:
    """[N,H] codes of the cells' places in the encoder's input; zero for CLS."""
    if not columns:
        return torch.zeros(1, hidden)
    first = columns[0]
    codes = sincos_2d(torch.from_numpy(cell_centres(first.grid)), hidden)
    return torch.cat([torch.zeros(1, hidden), codes]) if first.cls else codes
