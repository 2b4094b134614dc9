"""`--shards`: every way to name shards, and what is said of those that are not there."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import patterns
from contract.errors import ShardError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data").mkdir()
    for number in (0, 1, 2, 3, 7):
        (tmp_path / f"data/gqa-{number:03d}.tar").touch()
        (tmp_path / f"data/gqa-{number:03d}.tar.idx").touch()
    (tmp_path / "data/gqa-val-000.tar").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*given_: str) -> list[str]:
    return [named.path.name for named in patterns.expand(given_)]


@pytest.mark.parametrize("pattern", ["data/gqa-<000..003>.tar", "data/gqa-{000..003}.tar"])
def test_a_range_names_its_shards_in_order(folder: Path, pattern: str) -> None:
    assert names(pattern) == [f"gqa-{n:03d}.tar" for n in range(4)]
    assert all(named.explicit for named in patterns.expand([pattern]))


@pytest.mark.parametrize("pattern", ["data", "data/", "data/*.tar", "data/gqa-*", "data/gqa*"])
def test_globs_and_folders_sweep_up_tars_only(folder: Path, pattern: str) -> None:
    assert names(pattern) == sorted(path.name for path in Path("data").glob("*.tar"))
    assert not any(named.explicit for named in patterns.expand([pattern]))


def test_each_shard_once_in_the_order_named(folder: Path) -> None:
    assert names("data/gqa-002.tar", "data/gqa-<001..002>.tar", "data/gqa-00[02].tar") == [
        "gqa-002.tar",
        "gqa-001.tar",
        "gqa-000.tar",
    ]


def test_a_shard_named_itself_stays_so_beside_its_folder(folder: Path) -> None:
    for given_ in (["data", "data/gqa-002.tar"], ["data/gqa-002.tar", "data"]):
        named = {shard.path.name: shard for shard in patterns.expand(given_)}
        assert named["gqa-002.tar"].explicit and not named["gqa-003.tar"].explicit
        assert all(shard.whole for shard in named.values())
    assert not any(shard.whole for shard in patterns.expand(["data/*.tar", "data/gqa-002.tar"]))


def test_gaps_of_a_range_are_listed(folder: Path) -> None:
    with pytest.raises(ShardError, match=r"missing 004–006, 008–009") as caught:
        patterns.expand(["data/gqa-<000..009>.tar"])
    assert "gqa-" in str(caught.value.found) or "holds" in str(caught.value.found)
    assert "000–003, 007" in str(caught.value.found)
    assert caught.value.fix is not None and "dvc pull data" in caught.value.fix


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("data/none.tar", "no such shard"),
        ("data/coco-*.tar", "holds no shard"),
        ("nowhere/x.tar", "does not exist"),
        ("nowhere/*.tar", "does not exist"),
        ("data/gqa-<3..1>.tar", "not a range"),
        ("data/gqa-<0..9999999>.tar", "not a range"),
    ],
)
def test_what_is_not_there_is_said(folder: Path, pattern: str, said: str) -> None:
    with pytest.raises(ShardError, match=said):
        patterns.expand([pattern])


def test_an_empty_folder_is_an_error(folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(ShardError, match="holds no shard"):
        patterns.expand(["empty"])


@given(st.sets(st.integers(0, 999), min_size=1))
def test_runs_name_each_number_once(numbers: set[int]) -> None:
    text = patterns.runs([f"{number:03d}" for number in sorted(numbers)])
    named: list[int] = []
    for part in text.split(", "):
        first, _, last = part.partition("–")
        named += range(int(first), int(last or first) + 1)
    assert named == sorted(numbers)
