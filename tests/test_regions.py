"""RoIAlign over the token grid, and the pooling of spans: the laws that systems.md states."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from contract import geometry
from contract.geometry import Affine
from training.modules.pooling import POOLINGS
from training.modules.regions import box_vectors, to_input

GRID, HIDDEN = 4, 6
WHOLE = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
SIDE = st.floats(0, 1, width=32)


def tokens(pictures: int = 1, cls: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(pictures, GRID**2 + cls, HIDDEN, generator=generator)


def pooled(tokens: Tensor, boxes: list[list[float]], picture: list[int] | None = None, cls: bool = False):
    picture = torch.tensor(picture or [0] * len(boxes), dtype=torch.int64)
    boxes = torch.tensor(boxes).reshape(-1, 4)
    return box_vectors(tokens, boxes, picture, WHOLE.expand(len(tokens), 4), GRID, cls)


@pytest.mark.parametrize("cls", [False, True])
def test_a_box_of_the_whole_picture_gives_the_mean_of_the_map(cls):
    some = tokens(cls=cls)
    vectors, seen = pooled(some, [[0, 0, 1, 1]], cls=cls)
    assert seen.all()
    torch.testing.assert_close(vectors[0], some[0, cls:].mean(0))


@given(st.integers(0, GRID**2 - 1))
def test_a_box_of_one_cell_gives_that_cell(cell):
    row, column = divmod(cell, GRID)
    some = tokens()
    vectors, _ = pooled(some, [[column / GRID, row / GRID, (column + 1) / GRID, (row + 1) / GRID]])
    torch.testing.assert_close(vectors[0], some[0, cell])


def test_boxes_come_in_any_order_and_among_padding():
    boxes, padding = [[0, 0, 0.5, 0.5], [0.25, 0.5, 1, 1], [0.1, 0.2, 0.3, 0.9]], [0.0, 0.0, 0.0, 0.0]
    some = tokens(2)
    alone, _ = pooled(some, boxes, [0, 1, 1])
    mixed, seen = pooled(some, [boxes[2], padding, boxes[0], padding, boxes[1]], [1, 0, 0, 1, 1])
    torch.testing.assert_close(mixed[seen], alone[[2, 0, 1]])
    assert seen.tolist() == [True, False, True, False, True]


@pytest.mark.parametrize(
    "box", [[0, 0, 0, 0], [0.5, 0.2, 0.5, 0.9], [0.9, 0.9, 0.1, 0.1], [2, 2, 3, 3], [0, 0, float("nan"), 1]]
)
def test_a_box_of_no_use_is_zero_and_said_to_be_unseen(box):
    vectors, seen = pooled(tokens().requires_grad_(), [[*map(float, box)]])
    assert not seen.any() and (vectors == 0).all()


def test_a_box_of_no_use_gives_no_gradient_and_no_nan():
    some = tokens().requires_grad_()
    vectors, seen = pooled(some, [[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]])
    torch.nn.functional.normalize(vectors[seen]).sum().backward()
    assert torch.isfinite(some.grad).all()


@given(SIDE, SIDE, SIDE, SIDE, st.sampled_from([(1.0, 0.75), (1.5, 1.0), (0.5, 1.0)]))
def test_a_tensor_of_boxes_enters_the_input_as_the_contract_says(x0, y0, x1, y1, scale):
    box = np.array([[min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)]])
    shift = tuple((1 - s) / 2 for s in scale)
    wanted, wanted_seen = geometry.to_input(box, Affine(scale, shift))
    moved, seen = to_input(torch.from_numpy(box), torch.tensor([[*scale, *shift]], dtype=torch.float64))
    np.testing.assert_allclose(moved.numpy(), wanted)
    assert seen.tolist() == wanted_seen.tolist()


def test_no_box_at_all_is_legal():
    vectors, seen = pooled(tokens(), [])
    assert vectors.shape == (0, HIDDEN) and seen.shape == (0,)


@pytest.mark.parametrize("kind", POOLINGS)
def test_a_pooling_sees_its_span_and_nothing_else(kind):
    torch.manual_seed(0)
    pool, states = POOLINGS[kind](HIDDEN), torch.randn(2, 5, HIDDEN)
    mask = torch.tensor([[False, True, True, False, False], [False, False, False, True, False]])
    other = torch.where(mask[..., None], states, 1e3)
    torch.testing.assert_close(pool(states, mask), pool(other, mask))
    torch.testing.assert_close(pool(states, mask)[1], states[1, 3])


@pytest.mark.parametrize("kind", POOLINGS)
def test_a_span_without_a_token_is_zero_and_has_no_nan_in_its_gradient(kind):
    pool, states = POOLINGS[kind](HIDDEN), torch.randn(1, 5, HIDDEN, requires_grad=True)
    vector = pool(states, torch.zeros(1, 5, dtype=torch.bool))
    vector.sum().backward()
    assert (vector == 0).all() and torch.isfinite(states.grad).all()


def test_the_mean_and_the_greatest_are_what_they_say():
    states = torch.tensor([[[1.0], [5.0], [2.0]]])
    mask = torch.tensor([[True, False, True]])
    assert POOLINGS["mean"](1)(states, mask).item() == 1.5
    assert POOLINGS["max"](1)(states, mask).item() == 2.0
