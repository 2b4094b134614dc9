"""Pictures by their keys: each is found where it lies, and no other key finds it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from contract.index import KEY_BYTES
from training.batching.lookup import Lookup

keys = st.text("ab-_9", min_size=1, max_size=KEY_BYTES)


@given(st.lists(keys, unique=True, min_size=1, max_size=12), st.lists(keys, max_size=4), st.integers(0, 12))
def test_a_key_is_found_where_it_lies(known: list[str], others: list[str], cut: int) -> None:
    parts = {3: known[:cut], 5: known[cut:]}
    lookup = Lookup(list(parts), [np.array(part, f"S{KEY_BYTES}") for part in parts.values()])
    lie = {key: (shard, row) for shard, part in parts.items() for row, key in enumerate(part)}
    asked = known + others
    assert lookup.find(asked) == [lie.get(key) for key in asked]


def test_a_key_that_is_too_long_is_not_found_by_its_beginning() -> None:
    longest = "a" * KEY_BYTES
    lookup = Lookup([0], [np.array([longest], f"S{KEY_BYTES}")])
    assert lookup.find([longest + "a", longest, longest + "bc"]) == [None, (0, 0), None]
