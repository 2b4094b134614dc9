"""Identity: groups are the connected components, named by their earliest member."""

from itertools import combinations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.pictures.identity import BANDS, MAX_BITS, groups, look_alikes

KEYS = st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=3), max_size=12)


@given(KEYS, st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=4))
def test_groups_are_components(keys: list[list[str]], pairs: list[tuple[int, int]]) -> None:
    pairs = [(a, b) for a, b in pairs if max(a, b) < len(keys)]
    graph = nx.Graph(pairs)
    graph.add_nodes_from(range(len(keys)))
    shared = [(a, b) for a, b in combinations(range(len(keys)), 2) if set(keys[a]) & set(keys[b])]
    graph.add_edges_from(shared)
    expected = {row: min(component) for component in nx.connected_components(graph) for row in component}
    assert groups(keys, pairs) == [expected[row] for row in range(len(keys))]


@given(KEYS, st.lists(st.sampled_from("abcdefgh"), max_size=3))
def test_a_later_row_renames_no_group(keys: list[list[str]], later: list[str]) -> None:
    """A newcomer may join two groups; the group it joins keeps its earliest member."""
    before, after = groups(keys), groups([*keys, later])
    assert all(new in (old, *before) and new <= old for old, new in zip(before, after, strict=False))


@given(st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=8), st.data())
def test_look_alikes_join_what_is_within_two_bits(hashes: list[int], data: st.DataObject) -> None:
    base = hashes[0]
    for _ in range(3):
        bits = data.draw(st.lists(st.integers(0, 63), max_size=3, unique=True))
        hashes.append(base ^ sum(1 << bit for bit in bits))
    array = np.array(hashes, np.uint64)
    thumbs = np.zeros((len(hashes), 192), np.uint8)
    near = {
        pair
        for pair in combinations(range(len(hashes)), 2)
        if (hashes[pair[0]] ^ hashes[pair[1]]).bit_count() <= MAX_BITS
    }
    found = list(look_alikes(array, thumbs))
    assert set(found) <= near and len(set(found)) == len(found)
    nothing = [()] * len(hashes)
    assert groups(nothing, found) == groups(nothing, near)


def test_copies_of_one_picture_cost_no_more_than_their_number() -> None:
    count = 3000  # four and a half million pairs
    found = list(look_alikes(np.full(count, 5, np.uint64), np.zeros((count, 192), np.uint8)))
    assert found == [(0, row) for row in range(1, count)]


def test_thumbs_must_agree() -> None:
    hashes, thumbs = np.zeros(3, np.uint64), np.zeros((3, 192), np.uint8)
    thumbs[1] = 10
    thumbs[2, 17] = 60
    assert set(look_alikes(hashes, thumbs)) == {(0, 1)}


@pytest.mark.parametrize("rows", [0, 1])
def test_nothing_to_compare(rows: int) -> None:
    assert not list(look_alikes(np.zeros(rows, np.uint64), np.zeros((rows, 192), np.uint8)))
    assert MAX_BITS < BANDS
