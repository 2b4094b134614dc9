"""The order is a pure function of the seed and one integer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import ParamsError
from training.batching import order
from training.batching.order import SHUFFLES, Order, choose_texts, turns

seeds = st.integers(0, 2**32)
counts = st.lists(st.integers(0, 20), min_size=1, max_size=8).filter(any)
shuffles = st.sampled_from(list(SHUFFLES))
windows = st.integers(1, 9)


@given(shuffles, seeds, st.integers(0, 5), counts, windows)
def test_every_row_comes_once_an_epoch(shuffle, seed, epoch, rows, window):
    taken = Order(rows, seed=seed, shuffle=shuffle, window=window)
    chosen, epochs = taken.at(epoch * len(taken), len(taken))
    assert sorted(chosen) == list(range(sum(rows)))
    assert set(epochs) == {epoch}


@given(shuffles, seeds, st.integers(0, 200), counts, st.lists(st.integers(1, 17), min_size=1, max_size=6))
def test_batches_of_any_size_give_the_same_sequence(shuffle, seed, start, rows, sizes_of_batches):
    whole, _ = Order(rows, seed=seed, shuffle=shuffle, window=2).at(start, sum(sizes_of_batches))
    parts, position = [], start
    for size in sizes_of_batches:
        parts.append(Order(rows, seed=seed, shuffle=shuffle, window=2).at(position, size)[0])
        position += size
    assert np.array_equal(np.concatenate(parts), whole)


@given(seeds, counts, windows)
def test_a_window_holds_the_rows_of_its_shards_and_no_others(seed, rows, window):
    taken = Order(rows, seed=seed, shuffle="window", window=window).epoch(0)
    shards = np.repeat(np.arange(len(rows)), rows)[taken]
    changes = [shard for shard, before in zip(shards[1:], shards[:-1], strict=True) if shard != before]
    if window == 1:
        assert len(changes) == len(set(changes)) == sum(map(bool, rows)) - 1
    first = {shard: int(np.flatnonzero(shards == shard)[0]) for shard in set(shards)}
    open_shards = [
        sum(first[s] <= at <= np.flatnonzero(shards == s)[-1] for s in first) for at in range(len(shards))
    ]
    assert max(open_shards) <= window


def test_a_window_over_all_shards_mixes_them_all():
    taken = Order([50] * 4, seed=1, shuffle="window", window=4).epoch(0)
    assert len(set(np.array(taken[:20]) // 50)) == 4


def test_the_rows_as_they_lie():
    assert Order([2, 3], seed=0, shuffle="none").at(3, 4)[0].tolist() == [3, 4, 0, 1]


@pytest.mark.parametrize("shuffle", ["global", "window"])
def test_epochs_and_seeds_have_orders_of_their_own(shuffle):
    orders = {
        tuple(Order([30, 20], seed=seed, shuffle=shuffle, window=2).epoch(epoch))
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9


@given(seeds, st.text(min_size=1), st.integers(1, 12), st.integers(1, 12))
def test_every_text_is_shown_within_the_promised_epochs(seed, key, texts, take):
    epochs = -(-texts // take)
    shown = [order.choose_texts(seed, key, epoch, texts, take) for epoch in range(epochs)]
    assert {text for chosen in shown for text in chosen} == set(range(texts))
    assert all(len(chosen) == len(set(chosen)) == min(take, texts) for chosen in shown)


def test_an_unknown_order_names_the_nearest():
    with pytest.raises(ParamsError, match="did you mean 'global'"):
        Order([5], seed=0, shuffle="globl")


@given(st.integers(1, 9), st.integers(1, 9))
def test_a_text_is_told_how_often_it_was_shown_before(texts, take):
    seen = [0] * texts
    for epoch in range(12):
        rows = choose_texts(0, "picture", epoch, texts, take)
        for row, turn in zip(rows, turns(epoch, texts, take), strict=True):
            assert turn == seen[row]
            seen[row] += 1
