"""The order is a pure function of the seed and one integer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import ParamsError
from training import order

seeds = st.integers(0, 2**32)
sizes = st.integers(1, 60)


@given(seeds, st.integers(0, 5), sizes)
def test_every_row_comes_once_an_epoch(seed, epoch, rows):
    chosen, epochs = order.rows_at("global", seed, epoch * rows, rows, rows)
    assert sorted(chosen) == list(range(rows))
    assert set(epochs) == {epoch}


@given(seeds, st.integers(0, 200), sizes, st.lists(st.integers(1, 17), min_size=1, max_size=6))
def test_batches_of_any_size_give_the_same_sequence(seed, start, rows, sizes_of_batches):
    whole, _ = order.rows_at("global", seed, start, sum(sizes_of_batches), rows)
    parts, position = [], start
    for size in sizes_of_batches:
        parts.append(order.rows_at("global", seed, position, size, rows)[0])
        position += size
    assert np.array_equal(np.concatenate(parts), whole)


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {tuple(order.epoch_order("global", seed, epoch, 50)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


@given(seeds, st.text(min_size=1), st.integers(1, 12), st.integers(1, 12))
def test_every_text_is_shown_within_the_promised_epochs(seed, key, texts, take):
    epochs = -(-texts // take)
    shown = [order.choose_texts(seed, key, epoch, texts, take) for epoch in range(epochs)]
    assert {text for chosen in shown for text in chosen} == set(range(texts))
    assert all(len(chosen) == len(set(chosen)) == min(take, texts) for chosen in shown)


def test_an_unknown_order_names_the_nearest():
    with pytest.raises(ParamsError, match="did you mean 'global'"):
        order.rows_at("globl", 0, 0, 1, 5)
