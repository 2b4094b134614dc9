"""Statistics of a feature column: the same however its pictures are dealt to shards."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from data_pipeline.features.statistics import Gathering, ShardStatistics, summary

WIDTH = 3
values = st.floats(-100, 100, width=32)
pictures = st.lists(
    arrays.arrays(np.float32, st.tuples(st.integers(1, 3), st.just(WIDTH)), elements=values), max_size=6
)


def gather(chosen: list[NDArray[np.float32]]) -> ShardStatistics:
    gathering = Gathering(WIDTH)
    for tokens in chosen:
        gathering.add(tokens, tokens.tobytes())
    return gathering.done()


@given(pictures, st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_how_pictures_are_dealt_to_shards_changes_no_figure(
    chosen: list[NDArray[np.float32]], dealt: list[int]
) -> None:
    shards = [[t for t, place in zip(chosen, dealt, strict=False) if place == number] for number in range(3)]
    parts = [gather(shard) for shard in shards]
    apart, together = summary(parts, WIDTH), summary([gather(chosen)], WIDTH)
    assert (apart["pictures"], apart["tokens"]) == (len(chosen), sum(map(len, chosen)))
    for figure in ("pictures", "tokens", "dead", "duplicates"):
        assert apart[figure] == together[figure]
    assert apart["norm"] == pytest.approx(together["norm"], rel=1e-5)
    assert apart["error"]["int8"]["token"] == pytest.approx(together["error"]["int8"]["token"], rel=1e-5)
    assert summary(parts[::-1], WIDTH) == apart  # nor does the shards' order, not by a bit


@given(pictures)
def test_figures_are_those_of_the_tokens(chosen: list[NDArray[np.float32]]) -> None:
    found = summary([gather(chosen)], WIDTH)
    if not chosen:
        assert (found["tokens"], found["dead"], found["norm"]["mean"]) == (0, [], 0)
        return
    tokens = np.concatenate(chosen).astype(np.float64)
    norms = np.linalg.norm(tokens, axis=1)
    assert found["norm"] == pytest.approx(
        {"mean": norms.mean(), "min": norms.min(), "max": norms.max()}, rel=1e-5
    )
    assert found["dead"] == [d for d in range(WIDTH) if len(set(tokens[:, d])) == 1]
    assert found["duplicates"] == len(chosen) - len({picture.tobytes() for picture in chosen})


def test_errors_are_relative_and_name_the_worst_channel() -> None:
    tokens = np.array([[127, 0.4, 0], [127, 0, 0]], np.float32)  # in int8 the 0.4 is lost, and nothing else
    error = summary([gather([tokens])], WIDTH)["error"]
    lost = 0.4 / np.hypot(127, 0.4)
    assert error["int8"]["token"] == pytest.approx({"mean": lost / 2, "max": lost}, rel=1e-5)
    assert error["int8"]["channel"] == {"median": 0.0, "max": 1.0, "worst": 1}
    assert error["float16"]["channel"]["worst"] == 1 and error["float16"]["channel"]["max"] < 2**-11


def test_what_float16_cannot_hold_is_no_infinity() -> None:
    error = summary([gather([np.array([[1e6, 0, 0]], np.float32)])], WIDTH)["error"]
    assert error["float16"]["token"]["max"] == pytest.approx((1e6 - 65504) / 1e6)
