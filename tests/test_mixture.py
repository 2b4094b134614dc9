"""Several datasets take turns: by their weights, evenly, and the same from any start."""

from collections import Counter
from itertools import islice
from math import gcd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import ParamsError
from training.batching.mixture import endless, one_pass, weighted_round

weights = st.lists(st.integers(1, 9), min_size=1, max_size=4)
batches = st.integers(1, 7)


@given(weights)
def test_a_round_gives_every_dataset_its_weight_as_evenly_as_can_be(parts):
    turns = weighted_round(parts).tolist()
    assert Counter(turns) == {d: part // gcd(*parts) for d, part in enumerate(parts)}
    for dataset, part in enumerate(parts):
        for end in range(len(turns) + 1):
            assert abs(turns[:end].count(dataset) - end * part / sum(parts)) < len(parts)


@given(weights, batches, st.integers(0, 60))
def test_each_dataset_has_a_position_of_its_own_without_a_gap(parts, batch, number):
    spans = list(islice(endless(parts, batch, 0), 80))
    for dataset in range(len(parts)):
        starts = [span.start for span in spans if span.dataset == dataset]
        assert starts == list(range(0, len(starts) * batch, batch))
    assert [span.end for span in spans] == list(range(batch, 81 * batch, batch))
    assert list(islice(endless(parts, batch, number * batch), 80 - number)) == spans[number:]


@pytest.mark.parametrize("parts", [[4], [1, 2]])
def test_training_goes_on_between_batches_only(parts):
    with pytest.raises(ParamsError, match="inside a batch"):
        next(endless(parts, 4, 6))


@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), batches, st.integers(1, 3), st.data())
def test_a_pass_takes_every_row_once_and_never_two_datasets_at_once(rows, batch, passes, data):
    stop = passes * sum(rows)
    begin = data.draw(st.integers(0, stop))
    taken = Counter()
    for span in [*one_pass(rows, batch, 0, begin), *one_pass(rows, batch, begin, stop)]:
        assert 0 < span.rows <= batch
        taken.update((span.dataset, own) for own in range(span.start, span.start + span.rows))
    expected = {(d, own) for d, count in enumerate(rows) for own in range(passes * count)}
    assert set(taken) == expected and set(taken.values()) == {1}
