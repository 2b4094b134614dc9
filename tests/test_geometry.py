"""Where a picture's points lie in an encoder's input: the affine maps against the pixels themselves."""

import resource
from typing import get_args

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from contract.column import Transform
from contract.geometry import TRANSFORMS, Affine, affine, cell_centres, to_input, window
from data_pipeline.features.transforms import transform

NAMES = get_args(Transform)
names = st.sampled_from(NAMES)
sides = st.integers(1, 3000)
unit = st.floats(0, 1)
edges = st.integers(0, 999).flatmap(lambda low: st.tuples(st.just(low), st.integers(low + 1, 1000)))


def test_every_name_has_its_rule() -> None:
    assert tuple(TRANSFORMS) == NAMES


@pytest.mark.parametrize(
    ("picture", "padded", "seen"),
    [
        ((500, 200), (500, 400), 400),
        ((640, 480), (640, 512), 512),
        ((499, 400), (499, 400), 400),
        ((333, 100), (333, 266), 266),
        ((100, 333), (266, 333), 266),
        ((500, 400), (500, 400), 400),
        ((7, 7), (7, 7), 7),
    ],
)
def test_target_pad_is_the_published_one(
    picture: tuple[int, int], padded: tuple[int, int], seen: int
) -> None:
    """The square that the encoder sees is as large as the short side after padding."""
    assert window("target_pad", *picture) == (seen, seen) == (min(padded), min(padded))


@given(sides, sides)
def test_windows_hold_what_their_names_say(width: int, height: int) -> None:
    short, long = sorted((width, height))
    assert window("squash", width, height) == (width, height)
    assert window("letterbox", width, height) == (long, long)
    assert window("centre_crop", width, height) == (short, short)
    side, other = window("target_pad", width, height)
    assert side == other and short <= side <= long
    assert side == short or abs(side - long / 1.25) <= 2  # on both sides truncated


@given(names, sides, sides, unit, unit)
def test_a_map_goes_there_and_back_and_keeps_the_centre(
    name: Transform, width: int, height: int, x: float, y: float
) -> None:
    place, point = affine(name, width, height), np.array([[x, y]])
    np.testing.assert_allclose(place.invert(place.apply(point)), point, atol=1e-9)
    np.testing.assert_allclose(place.apply(np.array([[0.5, 0.5]])), [[0.5, 0.5]], atol=1e-12)


@given(names, sides, sides)
def test_all_but_squash_keep_the_aspect(name: Transform, width: int, height: int) -> None:
    assume(name != "squash")
    sx, sy = affine(name, width, height).scale
    assert sx / width == pytest.approx(sy / height)


@given(names, st.integers(40, 200), st.integers(40, 200), st.integers(40, 96), st.data())
def test_a_drawn_square_lies_where_the_map_says(
    name: Transform, width: int, height: int, size: int, data: st.DataObject
) -> None:
    """Its four edges, found by its colour, are within a pixel of the mapped box."""
    seen = np.array(window(name, width, height))
    side = int(min(width, height) * data.draw(st.floats(0.3, 0.6)))
    low = np.maximum(0, -(-((width, height) - seen) // 2))  # of the part that the encoder sees
    high = np.minimum((width, height), ((width, height) + seen) // 2) - side
    assume((high >= low).all())
    x, y = (data.draw(st.integers(int(a), int(b))) for a, b in zip(low, high, strict=True))
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[y : y + side, x : x + side] = 255
    drawn = transform(pixels, name, size)[..., 0] / 255.0
    corners = affine(name, width, height).apply(
        np.array([[x / width, y / height], [(x + side) / width, (y + side) / height]])
    )
    for axis, (start, end) in enumerate(corners.T * size):
        profile = drawn.max(axis)  # columns for x, rows for y
        assert abs(profile.sum() - (end - start)) < 1
        assert abs((profile * (np.arange(size) + 0.5)).sum() / profile.sum() - (start + end) / 2) < 1


@given(names, st.integers(1, 60), st.integers(1, 60), st.integers(1, 40))
def test_every_picture_becomes_the_square(name: Transform, width: int, height: int, size: int) -> None:
    white = transform(np.full((height, width, 3), 255, np.uint8), name, size)
    assert (white.shape, white.dtype) == ((size, size, 3), np.uint8)
    if name in ("squash", "centre_crop"):
        assert (white == 255).all()


def test_what_is_round_a_letterboxed_picture_is_black() -> None:
    white = transform(np.full((20, 40, 3), 255, np.uint8), "letterbox", 40)
    assert (white[10:30] == 255).all() and not white[:10].any() and not white[30:].any()


@pytest.mark.parametrize("name", ["letterbox", "target_pad"])
@pytest.mark.parametrize(("width", "height"), [(24_000, 8), (8, 24_000)])
def test_a_long_picture_takes_no_memory_that_its_square_would(
    name: Transform, width: int, height: int
) -> None:
    """The square that holds it whole has 1.7 GB of pixels."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    drawn = transform(np.full((height, width, 3), 255, np.uint8), name, 64)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB
    assert 0 < drawn.max() < 255 and not drawn[0, 0].any()


def test_a_box_that_the_encoder_half_sees_is_of_use() -> None:
    """A crop of 200 × 100 to its middle: x from a quarter to three quarters."""
    crop = affine("centre_crop", 200, 100)
    boxes = np.array([[0.0, 0, 0.5, 1], [0, 0, 0.49, 1], [0.4, 0.2, 0.6, 0.4], [0, 0, 0.2, 1]])
    clipped, of_use = to_input(boxes, crop)
    np.testing.assert_allclose(clipped[[0, 2]], [[0, 0, 0.5, 1], [0.3, 0.2, 0.7, 0.4]], atol=1e-12)
    assert of_use.tolist() == [True, False, True, False]


@given(names, sides, sides, edges, edges)
def test_boxes_stay_inside_the_input_and_padding_loses_none(
    name: Transform, width: int, height: int, x: tuple[int, int], y: tuple[int, int]
) -> None:
    box = np.array([[x[0], y[0], x[1], y[1]]]) / 1000
    clipped, (of_use,) = to_input(box, affine(name, width, height))
    assert (clipped >= 0).all() and (clipped <= 1).all()
    if name in ("squash", "letterbox"):
        assert of_use


def test_no_box_and_an_empty_one_are_no_error() -> None:
    assert to_input(np.zeros((0, 4)), Affine())[0].shape == (0, 4)
    assert not to_input(np.array([[0.5, 0.5, 0.5, 0.7]]), Affine())[1].any()


def test_cells_are_row_major() -> None:
    assert cell_centres(2).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
