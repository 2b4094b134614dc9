"""Placement is a pure function of id and params: nothing moves."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import ParamsError
from contract.params import Drop
from data_pipeline.pictures.placement import KEY, key, own_split, shard, shard_name, shard_ranges

DROPS = [Drop(shards={"train": 100, "val": 8}), Drop(shards={"train": 3}, path="later")]


@given(st.text(max_size=80))
def test_keys_are_safe_and_stable(picture: str) -> None:
    found = key(picture)
    assert KEY.fullmatch(found) and key(picture) == found
    assert (found == picture) == bool(KEY.fullmatch(picture))


def test_keys_of_odd_ids_differ() -> None:
    odd = ["a/b", "a b", "a.b", "é", "", "x" * 65, "x" * 66]
    assert len({key(picture) for picture in odd}) == len(odd)


def test_pictures_fill_all_shards_evenly() -> None:
    ranges = shard_ranges(DROPS)
    count = Counter(shard("gqa", str(number), "train", 0, ranges) for number in range(20_000))
    assert sorted(count) == [f"gqa-{number:03d}" for number in range(100)]
    assert min(count.values()) > 130 and max(count.values()) < 280


def test_a_later_drop_opens_new_shards_and_moves_nothing() -> None:
    pictures = [str(number) for number in range(500)]
    before = [shard("gqa", picture, "train", 0, shard_ranges(DROPS[:1])) for picture in pictures]
    assert before == [shard("gqa", picture, "train", 0, shard_ranges(DROPS)) for picture in pictures]
    later = {shard("gqa", picture, "train", 1, shard_ranges(DROPS)) for picture in pictures}
    assert later == {"gqa-100", "gqa-101", "gqa-102"}


def test_a_split_without_shards_is_named() -> None:
    with pytest.raises(ParamsError, match="does not name the split 'testdev'") as error:
        shard("gqa", "7", "testdev", 0, shard_ranges(DROPS))
    assert "datasets.gqa.raw[0].shards" in str(error.value)


def test_names() -> None:
    assert [shard_name("gqa", "train", 7), shard_name("gqa", "val", 7)] == ["gqa-007", "gqa-val-007"]
    assert shard_name("gqa", "train", 1234) == "gqa-1234"


def test_own_splits_follow_the_shares() -> None:
    shares = {"train": 0.8, "val": 0.2}
    found = Counter(own_split(f"vg:{number}", shares) for number in range(5000))
    assert found["val"] == pytest.approx(1000, abs=120)
    assert own_split("vg:1", {"train": 1.0}) == "train"
