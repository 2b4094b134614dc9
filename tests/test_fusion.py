"""Gated fusion and resampling: the properties that the notes state."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import ParamsError
from training.fusion import registry
from training.fusion.gated import GatedFusionModule
from training.picture import Column, PictureEncoder, Resampler


def streams(n=5, hidden=16):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, n, hidden, generator=generator), torch.randn(2, n, hidden, generator=generator)


def test_gated_has_the_parameters_of_the_notes():
    assert sum(p.numel() for p in GatedFusionModule(hidden_size=768).parameters()) == 2_952_193


def test_gated_with_alpha_zero_is_the_first_stream_bit_for_bit():
    v, c = streams()
    module = GatedFusionModule(16, alpha=0.0)
    assert torch.equal(module(v, c), v)
    module(v, c).sum().backward()
    assert {name for name, p in module.named_parameters() if p.grad.abs().sum() > 0} == {"alpha"}


def test_gated_with_alpha_moves_gradients_to_both_streams():
    v, c = (stream.requires_grad_() for stream in streams())
    GatedFusionModule(16, alpha=0.5)(v, c).square().sum().backward()
    assert v.grad.abs().sum() > 0 and c.grad.abs().sum() > 0


def test_gated_looks_at_its_second_stream():
    v, c = streams()
    module = GatedFusionModule(16, alpha=0.5)
    assert (module(v, c) - module(v, torch.zeros_like(c))).abs().max() > 0


def test_an_unknown_fusion_names_the_nearest():
    with pytest.raises(ParamsError, match="did you mean 'gated'"):
        registry.build("gatd", 8, 0.0)


COARSE = Column("esam", grid=4, cls=False, width=3, transform="squash")
FINE = Column("vit", grid=8, cls=True, width=3, transform="squash")


@given(st.integers(0, 15), st.sampled_from([(COARSE, FINE), (FINE, COARSE), (COARSE, COARSE)]))
@settings(deadline=None)
def test_a_bright_cell_stays_in_its_place_on_the_other_grid(cell, columns):
    source, onto = columns
    row, column = divmod(cell, 4)
    tokens = torch.zeros(1, source.grid**2 + source.cls, 1)
    scale = source.grid // 4
    image = tokens[:, source.cls :].view(1, source.grid, source.grid, 1)
    image[:, row * scale : (row + 1) * scale, column * scale : (column + 1) * scale] = 1
    out, visible = Resampler(source, onto)(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool))
    grid = out[0, onto.cls :, 0].view(onto.grid, onto.grid)
    peak = divmod(int(grid.argmax()), onto.grid)
    assert tuple(p * 4 // onto.grid for p in peak) == (row, column)
    assert visible.all()


def test_equal_grids_are_copied_exactly():
    tokens = torch.randn(2, 16, 3)
    out, _ = Resampler(COARSE, COARSE)(tokens, torch.ones(2, 16, dtype=torch.bool))
    assert torch.allclose(out, tokens)


@pytest.mark.parametrize("columns", [(COARSE, FINE), (FINE, COARSE)])
def test_resampling_has_one_gradient_whatever_the_threads(columns):
    source, onto = columns
    tokens = torch.randn(4, source.grid**2 + source.cls, 64, requires_grad=True)
    visible = torch.rand(tokens.shape[:2]) > 0.3
    out, _ = Resampler(source, onto)(tokens, visible)
    first, second = (torch.autograd.grad(out, tokens, out, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert not first[~visible].any()


def test_hidden_cells_do_not_leak_through_resampling():
    tokens = torch.randn(1, 16, 3)
    visible = torch.zeros(1, 16, dtype=torch.bool)
    visible[0, 5] = True
    changed = torch.where(visible[..., None], tokens, torch.full_like(tokens, 1e3))
    resample = Resampler(COARSE, FINE)
    first, seen = resample(tokens, visible)
    second, _ = resample(changed, visible)
    assert torch.equal(first, second)
    assert not first[~seen].any()


def test_a_missing_cls_is_the_mean_of_the_visible_tokens():
    tokens, visible = torch.randn(1, 16, 3), torch.arange(16)[None] < 4
    out, _ = Resampler(COARSE, FINE)(tokens, visible)
    assert torch.allclose(out[:, 0], tokens[:, :4].mean(1), atol=1e-6)


def test_hidden_tokens_do_not_change_the_visible_output():
    torch.manual_seed(0)
    encoder = PictureEncoder([FINE, COARSE], 16, "gated", 0.5).eval()
    features = {"vit": torch.randn(1, 65, 3), "esam": torch.randn(1, 16, 3)}
    visible = {"vit": torch.rand(1, 65) > 0.5, "esam": torch.rand(1, 16) > 0.5}
    blurred = {
        name: torch.where(visible[name][..., None], x, torch.full_like(x, 7.0))
        for name, x in features.items()
    }
    first, seen = encoder(features, visible, 1)
    second, _ = encoder(blurred, visible, 1)
    assert torch.equal(first[seen], second[seen])


def test_the_blind_encoder_reads_nothing():
    tokens, visible = PictureEncoder([], 16, "gated", 0.0)({}, {}, 3)
    assert tokens.shape == (3, 1, 16) and visible.all()
