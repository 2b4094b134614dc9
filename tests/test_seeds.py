"""Hashes of many keys at once: of every part, of no padding, and evenly spread."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from contract.seeds import hash_keys, uniforms

keys = st.lists(
    st.text("abcXYZ019_-", min_size=1, max_size=64).map(str.encode), min_size=1, max_size=20, unique=True
)


@given(keys)
def test_a_key_has_one_hash_whatever_lies_beside_it(drawn):
    together = hash_keys(np.array(drawn, "S64"), "purpose")
    alone = [hash_keys(np.array([key]), "purpose")[0] for key in drawn]
    assert together.tolist() == alone
    assert len(set(alone)) == len(drawn)


def test_every_part_matters():
    key = np.array([b"n123"])
    assert len({int(hash_keys(key, *parts)[0]) for parts in [(), ("a",), ("b",), ("a", 1), (1,)]}) == 5


def test_numbers_are_spread_evenly():
    drawn = uniforms(np.array([f"{n:08d}" for n in range(64_000)], "S64"), "spread")
    counted = np.histogram(drawn, 64, (0, 1))[0]
    assert abs(counted - 1000).max() < 6 * 1000**0.5
    assert len(set(drawn.tolist())) == len(drawn)


def test_no_keys_have_no_hashes():
    assert len(hash_keys(np.array([], "S64"))) == 0
