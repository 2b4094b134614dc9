"""Frozen features → one stream of picture tokens: resampling between grids, and the encoder around it."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from contract.geometry import cell_centres
from training.batch import Batch
from training.fusion import registry
from training.fusion.registry import Shape
from training.trunk.picture import Column, PictureEncoder, Resampler, axis_weights

SHAPE = Shape(hidden=16, heads=2, dropout=0.0, alpha=0.5, layers=2, separate=1, repeats=2)
WHOLE = torch.tensor([[1.0, 1.0, 0.0, 0.0]])  # squash: the whole picture fills the input


def encoder(columns: list[Column], kind: str = "gated") -> PictureEncoder:
    torch.manual_seed(0)
    return PictureEncoder(columns, 16, registry.kind(kind), SHAPE).eval()


def batch(features: dict[str, Tensor], visible: dict[str, Tensor], pictures: int = 1) -> Batch:
    """What the encoder reads of a batch: nothing is hidden, pictures fill the inputs."""
    pictures = max([pictures, *(len(tokens) for tokens in features.values())])
    parts: dict[str, Any] = {field.name: None for field in fields(Batch)}
    parts |= {"keys": ["p"] * pictures, "features": features, "scales": {}, "visible": visible}
    parts |= {"hidden": {name: torch.zeros_like(mask) for name, mask in visible.items()}}
    return Batch(**{**parts, "place": {name: WHOLE.expand(pictures, 4) for name in features}})


COARSE = Column("esam", grid=4, cls=False, width=3)
FINE = Column("vit", grid=8, cls=True, width=3)


@given(st.integers(0, 15), st.sampled_from([(COARSE, FINE), (FINE, COARSE), (COARSE, COARSE)]))
@settings(deadline=None)
def test_a_bright_cell_stays_in_its_place_on_the_other_grid(cell, columns):
    source, onto = columns
    row, column = divmod(cell, 4)
    tokens = torch.zeros(1, source.grid**2 + source.cls, 1)
    scale = source.grid // 4
    image = tokens[:, source.cls :].view(1, source.grid, source.grid, 1)
    image[:, row * scale : (row + 1) * scale, column * scale : (column + 1) * scale] = 1
    out, visible = Resampler(source, onto)(
        tokens, torch.ones(tokens.shape[:2], dtype=torch.bool), WHOLE, WHOLE
    )
    grid = out[0, onto.cls :, 0].view(onto.grid, onto.grid)
    peak = divmod(int(grid.argmax()), onto.grid)
    assert tuple(p * 4 // onto.grid for p in peak) == (row, column)
    assert visible.all()


def test_equal_grids_are_copied_exactly():
    tokens = torch.randn(2, 16, 3)
    out, _ = Resampler(COARSE, COARSE)(tokens, torch.ones(2, 16, dtype=torch.bool), WHOLE, WHOLE)
    assert torch.allclose(out, tokens)


@pytest.mark.parametrize("columns", [(COARSE, FINE), (FINE, COARSE)])
def test_resampling_has_one_gradient_whatever_the_threads(columns):
    source, onto = columns
    tokens = torch.randn(4, source.grid**2 + source.cls, 64, requires_grad=True)
    visible = torch.rand(tokens.shape[:2]) > 0.3
    out, _ = Resampler(source, onto)(tokens, visible, WHOLE, WHOLE)
    first, second = (torch.autograd.grad(out, tokens, out, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert not first[~visible].any()


def test_hidden_cells_do_not_leak_through_resampling():
    tokens = torch.randn(1, 16, 3)
    visible = torch.zeros(1, 16, dtype=torch.bool)
    visible[0, 5] = True
    changed = torch.where(visible[..., None], tokens, torch.full_like(tokens, 1e3))
    resample = Resampler(COARSE, FINE)
    first, seen = resample(tokens, visible, WHOLE, WHOLE)
    second, _ = resample(changed, visible, WHOLE, WHOLE)
    assert torch.equal(first, second)
    assert not first[~seen].any()


def test_a_missing_cls_is_the_mean_of_the_visible_tokens():
    tokens, visible = torch.randn(1, 16, 3), torch.arange(16)[None] < 4
    out, _ = Resampler(COARSE, FINE)(tokens, visible, WHOLE, WHOLE)
    assert torch.allclose(out[:, 0], tokens[:, :4].mean(1), atol=1e-6)


def test_hidden_tokens_do_not_change_the_visible_output():
    encode = encoder([FINE, COARSE])
    features = {"vit": torch.randn(1, 65, 3), "esam": torch.randn(1, 16, 3)}
    visible = {"vit": torch.rand(1, 65) > 0.5, "esam": torch.rand(1, 16) > 0.5}
    blurred = {
        name: torch.where(visible[name][..., None], x, torch.full_like(x, 7.0))
        for name, x in features.items()
    }
    first, seen = encode(batch(features, visible))
    second, _ = encode(batch(blurred, visible))
    assert torch.equal(first[seen], second[seen])


def test_the_blind_encoder_reads_nothing():
    tokens, visible = encoder([])(batch({}, {}, pictures=3))
    assert tokens.shape == (3, 1, 16) and visible.all()


PLACES = st.tuples(st.floats(0.3, 2.0), st.floats(0.3, 2.0), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))


@given(PLACES, PLACES)
@settings(deadline=None)
def test_reading_another_transform_is_torch_grid_sample(source, onto):
    """The peer: grid_sample at the places that the two maps give."""
    tokens = torch.randn(1, 16, 3, generator=torch.Generator().manual_seed(1))
    centres = torch.from_numpy(cell_centres(8))
    there, here = torch.tensor([source]).double(), torch.tensor([onto]).double()
    at = (centres - here[:, 2:]) / here[:, :2] * there[:, :2] + there[:, 2:]
    grid = (2 * at - 1).view(1, 8, 8, 2).float()
    square = tokens.mT.reshape(1, 3, 4, 4)
    read = functional.grid_sample(square, grid, padding_mode="border", align_corners=False)
    inside = ((at >= 0) & (at <= 1)).all(-1).view(1, 64)
    out, visible = Resampler(COARSE, Column("b", 8, False, 3))(
        tokens, torch.ones(1, 16, dtype=torch.bool), there.float(), here.float()
    )
    agree = visible == inside
    assert agree.float().mean() > 0.8  # float32 may round a centre over the edge
    both = visible & inside
    assert torch.allclose(out[both], read.flatten(2).mT[both], atol=1e-4)


def test_axis_weights_add_up_to_one_inside_and_nothing_outside():
    letterboxed = torch.tensor([[1.0, 0.5, 0.0, 0.25]])  # a picture twice as wide as high
    across, down = axis_weights(WHOLE, 4, letterboxed, 8)
    assert torch.allclose(across.sum(-1), torch.ones(1, 8))
    assert down.sum(-1).tolist() == [[0, 0, 1, 1, 1, 1, 0, 0]]


def test_a_cell_outside_the_other_input_is_hidden():
    centre_crop = torch.tensor([[2.0, 1.0, -0.5, 0.0]])  # the middle half of the width
    tokens = torch.randn(1, 16, 3)
    out, visible = Resampler(COARSE, Column("b", 4, False, 3))(
        tokens, torch.ones(1, 16, dtype=torch.bool), centre_crop, WHOLE
    )
    assert visible.view(4, 4)[0].tolist() == [False, True, True, False]
    assert not out[~visible].any()


@pytest.mark.parametrize("kind", registry.FUSIONS)
def test_every_kind_gives_the_first_columns_places(kind):
    features = {"vit": torch.randn(2, 65, 3), "esam": torch.randn(2, 16, 3)}
    visible = {name: torch.ones(x.shape[:2], dtype=torch.bool) for name, x in features.items()}
    tokens, seen = encoder([FINE, COARSE], kind)(batch(features, visible))
    assert tokens.shape == (2, 65, 16) and seen.all() and np.isfinite(tokens.detach().numpy()).all()
