"""Laws of int8 tokens."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from contract.column import suffixes
from contract.quantise import dequantise, quantise

finite = st.floats(-(2.0**100), 2.0**100, width=32)
shapes = st.tuples(st.integers(0, 5), st.integers(1, 8))
tokens = arrays.arrays(np.float32, shapes, elements=finite)
LARGEST = np.finfo(np.float32).max
any_size = arrays.arrays(np.float32, shapes, elements=st.floats(-float(LARGEST), float(LARGEST), width=32))


@given(any_size)
@example(np.array([[LARGEST, 1.0]], np.float32))
@example(np.array([[-LARGEST]], np.float32))
def test_a_value_comes_back_within_half_a_scale(tokens_ND: NDArray[np.float32]) -> None:
    stored, scale = quantise(tokens_ND)
    assert (stored.dtype, scale.dtype, stored.shape, scale.shape) == (
        np.int8,
        np.float32,
        tokens_ND.shape,
        tokens_ND.shape[:1],
    )
    error = np.abs(dequantise(stored, scale).astype(np.float64) - tokens_ND)
    assert (error <= 0.5001 * scale[:, None]).all()


@given(tokens)
def test_the_largest_value_of_a_token_is_127_and_its_scale_positive(tokens_ND: NDArray[np.float32]) -> None:
    stored, scale = quantise(tokens_ND)
    sure = np.abs(tokens_ND).max(1, initial=0) > 1e-36  # below, a float32 scale has no digits left
    assert (np.abs(stored.astype(int)).max(1, initial=0)[sure] == 127).all()
    assert (scale > 0).all() and np.abs(stored.astype(int)).max(initial=0) <= 127


@given(tokens, st.integers(-8, 8))
def test_a_power_of_two_changes_the_scale_alone(tokens_ND: NDArray[np.float32], power: int) -> None:
    large = np.where(np.abs(tokens_ND) < 1e-20, 0, tokens_ND).astype(np.float32)
    stored, scale = quantise(large)
    again, scaled = quantise(large * np.float32(2.0**power))
    np.testing.assert_array_equal(stored, again)
    used = np.abs(large).max(1, initial=0) > 0
    np.testing.assert_array_equal(scaled[used], scale[used] * np.float32(2.0**power))


def test_halves_go_to_the_even_number() -> None:
    stored, scale = quantise(np.array([[127, 0.5, 1.5, 2.5, -0.5, -1.5]], np.float32))
    assert (stored.tolist(), scale.tolist()) == ([[127, 0, 2, 2, 0, -2]], [1.0])


@pytest.mark.parametrize("value", [0.0, 1e-45])
def test_a_token_of_nothing_has_scale_1(value: float) -> None:
    stored, scale = quantise(np.full((1, 3), value, np.float32))
    assert (stored.tolist(), scale.tolist()) == ([[0, 0, 0]], [1.0])


def test_an_int8_column_has_a_member_for_the_scales() -> None:
    assert suffixes("vit", "float16") == ["vit.npy"]
    assert suffixes("vit", "int8") == ["vit.npy", "vit.scale.npy"]
