"""Maps drawn over a picture: each cell where the encoder saw it, as dark as it weighs."""

from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.geometry import TRANSFORMS, Affine, affine, cell_centres
from training.evaluation.heatmap import DARKEST, SIDE, Photo, svg

SVG = "{http://www.w3.org/2000/svg}"


def cells(page: str) -> list[dict[str, float]]:
    """The rectangles of all panels."""
    found = ElementTree.fromstring(page).iter(f"{SVG}rect")
    return [
        {name: float(rect.attrib[name]) for name in ("x", "y", "width", "height", "fill-opacity")}
        for rect in found
        if rect.attrib.get("class") == "cell"
    ]


@given(
    st.sampled_from(sorted(TRANSFORMS)),
    st.integers(20, 900),
    st.integers(20, 900),
    st.integers(2, 6),
    st.data(),
)
def test_a_cell_lies_over_what_its_token_saw(transform, width, height, grid, data):
    number = data.draw(st.integers(0, grid**2 - 1))
    place = affine(transform, width, height)
    drawn = cells(
        svg("", Photo(b"", width, height, place), [("", np.eye(grid**2, dtype=np.float32)[number])])
    )
    (rect,) = drawn
    centre = place.invert(cell_centres(grid))[number] * (width, height) * SIDE / max(width, height)
    assert rect["x"] + rect["width"] / 2 == pytest.approx(centre[0], abs=0.11)
    assert rect["y"] + rect["height"] / 2 == pytest.approx(centre[1], abs=0.11)
    assert rect["fill-opacity"] == DARKEST


def test_cells_are_as_dark_as_they_weigh_beside_the_strongest_and_no_weight_draws_nothing():
    panels = [("two", np.array([0, 2, 1, 0], np.float32)), ("none", np.zeros(4, np.float32))]
    found = [rect["fill-opacity"] for rect in cells(svg("", Photo(b"", 8, 4, Affine()), panels))]
    assert found == [DARKEST, DARKEST / 2]


def test_words_from_strangers_are_words():
    page = svg("<script>x</script> & co", Photo(b"", 8, 4, Affine()), [("</svg>", np.zeros(4, np.float32))])
    texts = [text.text for text in ElementTree.fromstring(page).iter(f"{SVG}text")]
    assert texts == ["<script>x</script> & co", "</svg>"]
