"""Masks: exact budgets, drawn over the picture, the same place on every grid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import ParamsError
from contract.geometry import Affine
from contract.seeds import rng
from training import masking

ratios = st.floats(0, 1)


@given(st.integers(0, 1000), st.integers(1, 16), ratios)
def test_random_hides_exactly_the_rounded_share(seed, lattice, ratio):
    visible = masking.draw("random", rng(seed), lattice, ratio)
    assert (~visible).sum() == round(ratio * lattice**2)


def test_the_share_is_rounded_and_not_cut():
    """systems.md, MAE: int(100 · 0.1) keeps 9 of 100 through floating point; 10 are meant."""
    assert masking.draw("random", rng(0), 10, 0.9).sum() == 10


@given(st.integers(0, 1000), st.integers(1, 8), ratios, st.sampled_from([1, 2, 3]), st.booleans())
def test_a_finer_grid_shows_the_same_places(seed, lattice, ratio, factor, cls):
    visible = masking.draw("random", rng(seed), lattice, ratio)
    tokens = masking.project(visible, lattice, Affine(), lattice * factor, cls)
    fine = tokens[cls:].reshape(lattice * factor, lattice * factor)
    expected = np.kron(visible.reshape(lattice, lattice), np.ones((factor, factor), bool))
    assert np.array_equal(fine, expected)
    assert not cls or tokens[0]


def test_padding_is_never_visible():
    lower_half = Affine(scale=(1.0, 0.5), shift=(0.0, 0.5))  # the picture fills the lower half of the input
    tokens = masking.project(np.ones(16, bool), 4, lower_half, 4, cls=False).reshape(4, 4)
    assert not tokens[:2].any() and tokens[2:].all()


def test_an_unknown_kind_is_refused():
    with pytest.raises(ParamsError, match="unknown mask 'blok'"):
        masking.draw("blok", rng(0), 4, 0.5)
