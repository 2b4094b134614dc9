"""Masks: exact budgets, drawn over the picture, the same place on every grid."""

from itertools import islice

import numpy as np
import pytest
import synthetic
import torch
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import ParamsError
from contract.geometry import Affine, cell_centres
from contract.seeds import rng
from training import schedule
from training.batching import masking
from training.batching.lattice import covered, touching
from training.config import Masking
from training.shards import open_shards
from training.stream import Stream

ratios = st.floats(0, 1)
WHOLE = np.array([[0.0, 0.0, 1.0, 1.0]])


@st.composite
def boxes(draw):
    corners = st.lists(st.integers(0, 20), min_size=2, max_size=2, unique=True).map(sorted)
    found = [(*draw(corners), *draw(corners)) for _ in range(draw(st.integers(0, 3)))]
    return np.array([(x0, y0, x1, y1) for x0, x1, y0, y1 in found]).reshape(-1, 4) / 20


@pytest.mark.parametrize("kind", masking.KINDS)
@given(seed=st.integers(0, 1000), lattice=st.integers(1, 16), ratio=ratios, boxes=boxes())
def test_every_kind_hides_exactly_the_rounded_share(kind, seed, lattice, ratio, boxes):
    visible = masking.draw(kind, rng(seed), lattice, ratio, boxes)
    assert (~visible).sum() == round(ratio * lattice**2)


@pytest.mark.parametrize("kind", masking.KINDS)
def test_the_same_draw_gives_the_same_mask_and_another_another(kind):
    box = np.array([[0.1, 0.1, 0.9, 0.9]])
    first, again, other = (masking.draw(kind, rng(seed), 14, 0.4, box) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other) or kind == "centre"


def overlaps(boxes, lattice):
    """[L²] of each cell the share that lies in a box, counted on points finer than the corners' 20 steps."""
    steps = (np.arange(20 * lattice) + 0.5) / (20 * lattice)
    x, y = steps[None, :], steps[:, None]
    inside = np.zeros((len(steps), len(steps)), bool)
    for x0, y0, x1, y1 in boxes:
        inside |= (x0 < x) & (x < x1) & (y0 < y) & (y < y1)
    return inside.reshape(lattice, 20, lattice, 20).mean((1, 3)).ravel()


@given(st.integers(0, 1000), st.integers(2, 16), ratios, boxes())
def test_object_masks_hide_what_boxes_cover_most_and_all_that_they_touch_before_anything_else(
    seed, lattice, ratio, boxes
):
    visible = masking.draw("object", rng(seed), lattice, ratio, boxes)
    share = overlaps(boxes, lattice)
    assert share[~visible].min(initial=1) >= share[visible].max(initial=0) - 1e-9
    assert (~visible).sum() < (share > 0).sum() or not share[visible].any()


def test_a_thing_that_holds_no_centre_of_a_cell_is_hidden():
    """As half of the boxes of COCO do on 8 × 8 cells."""
    small = np.array([[0.01, 0.01, 0.05, 0.05], [0.30, 0.51, 0.32, 0.53]])
    visible = masking.draw("object", rng(0), 8, 2 / 64, small)
    assert np.flatnonzero(~visible).tolist() == [0, 4 * 8 + 2]


def test_cells_that_boxes_cover_alike_are_hidden_at_random():
    seen = {tuple(masking.draw("object", rng(seed), 8, 1 / 64, WHOLE)) for seed in range(20)}
    assert len(seen) > 5


def test_a_box_that_ends_on_a_cells_edge_touches_no_further_cell():
    """Rounding is no overlap, and a sliver beyond it is one: as masked views see it."""
    box = np.array([[0.0, 0.0, 0.1 + 0.2 + 0.2, 0.5 + 1e-9], [0.75 - 1e-5, 0.75 - 1e-5, 1.0, 1.0]])
    assert np.flatnonzero(covered(box, 4)).tolist() == [0, 1, 4, 5, 10, 11, 14, 15]
    seen = touching(torch.from_numpy(box.astype(np.float32)), 4).any(0)
    assert seen.nonzero()[:, 0].tolist() == [0, 1, 4, 5, 10, 11, 14, 15]


@given(st.integers(0, 1000), st.integers(2, 16), ratios)
def test_centre_masks_hide_no_cell_further_out_than_a_visible_one(seed, lattice, ratio):
    visible = masking.draw("centre", rng(seed), lattice, ratio)
    distance = np.square(cell_centres(lattice) - 0.5).sum(1)
    hidden = distance[~visible].max(initial=0)
    assert hidden <= distance[visible].min(initial=2) + 1e-9


def test_blocks_hang_together():
    """A hidden cell of a block has more hidden neighbours than one drawn alone."""

    def neighbours(kind):
        pairs = 0
        for seed in range(20):
            hidden = ~masking.draw(kind, rng(seed), 14, 0.4).reshape(14, 14)
            pairs += (hidden[1:] & hidden[:-1]).sum() + (hidden[:, 1:] & hidden[:, :-1]).sum()
        return pairs

    assert neighbours("block") > 1.4 * neighbours("random")


@given(ratios, ratios, st.floats(-1, 2))
def test_a_scheduled_ratio_runs_from_its_first_value_to_its_last(first, last, progress):
    low, high = sorted((first, last))
    assert schedule.value_at(first, last, 0) == first
    assert schedule.value_at(first, last, 1) == pytest.approx(last)
    assert low - 1e-9 <= schedule.value_at(first, last, progress) <= high + 1e-9
    assert schedule.value_at(first, None, progress) == first


@pytest.mark.parametrize("epochs", [0.5, 1, 3])
def test_the_ratio_moves_through_a_run_however_long_it_is(tmp_path, epochs):
    synthetic.build(tmp_path, train=32, val=4, shards=2)
    shards = open_shards([str(tmp_path / "data")], ["vit"])
    stream = Stream(shards, ["vqa"], batch=4, epochs=epochs, mask=Masking(ratio=0.0, ratio_end=0.5))
    batches = list(islice(stream, int(8 * epochs)))
    hidden = [batch.hidden["vit"].float().sum().item() / (4 * synthetic.GRID**2) for batch in batches]
    assert hidden == sorted(hidden) and hidden[0] < 0.2 and hidden[-1] == 0.5
    again = Stream(
        shards, ["vqa"], batch=4, epochs=epochs, mask=Masking(ratio=0.0, ratio_end=0.5), position=8
    )
    assert torch.equal(next(iter(again)).hidden["vit"], batches[2].hidden["vit"])


def test_the_share_is_rounded_and_not_cut():
    """systems.md, MAE: int(100 · 0.1) keeps 9 of 100 through floating point; 10 are meant."""
    assert masking.draw("random", rng(0), 10, 0.9).sum() == 10


@given(st.integers(0, 1000), st.integers(1, 8), ratios, st.sampled_from([1, 2, 3]), st.booleans())
def test_a_finer_grid_shows_the_same_places(seed, lattice, ratio, factor, cls):
    visible = masking.draw("random", rng(seed), lattice, ratio)
    tokens, hidden = masking.project(visible, lattice, Affine(), lattice * factor, cls)
    fine = tokens[cls:].reshape(lattice * factor, lattice * factor)
    expected = np.kron(visible.reshape(lattice, lattice), np.ones((factor, factor), bool))
    assert np.array_equal(fine, expected)
    assert not cls or tokens[0]
    assert np.array_equal(hidden, ~tokens)


def test_padding_is_neither_visible_nor_hidden():
    lower_half = Affine(scale=(1.0, 0.5), shift=(0.0, 0.5))  # the picture fills the lower half of the input
    for drawn in (np.ones(16, bool), np.zeros(16, bool)):
        visible, hidden = masking.project(drawn, 4, lower_half, 4, cls=False)
        assert not (visible | hidden).reshape(4, 4)[:2].any() and (visible ^ hidden).reshape(4, 4)[2:].all()


def test_an_unknown_kind_is_refused():
    with pytest.raises(ParamsError, match="unknown mask 'blok'"):
        masking.draw("blok", rng(0), 4, 0.5)
