"""Stage negatives: exact neighbours of the same dataset and split, never of the same group, never absent."""

import argparse
from pathlib import Path

import by_hand
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import codec, index, manifest
from contract.errors import MismatchError
from contract.manifest import FeatureManifest, NegativesManifest
from contract.record import Near
from data_pipeline.negatives import neighbours
from data_pipeline.shards import shard_reader
from data_pipeline.stages import negatives

ARGS = argparse.Namespace(params=Path("params.yaml"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    by_hand.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(shard: str) -> dict[str, Near]:
    path = Path(f"negatives/{shard}.tar")
    return {
        key: codec.decode_negatives(raw, key).pictures
        for key, raw, _ in shard_reader.members(path, "neg.json")
    }


def test_neighbours_are_of_other_groups_nearest_first(project: Path) -> None:
    negatives.run(ARGS)
    near = load("gqa-000")
    assert near["1"].key == ["10"]  # "2" is the same photograph
    assert near["10"].key == ["1", "2"] and near["10"].text == ["", ""]
    assert near["10"].score == pytest.approx(np.cos([0.125, 0.375]), abs=1e-3)
    assert load("gqa-val-000")["3"].key == []  # alone in its split
    assert load("cirr-000")["a-img0"].key == [by_hand.ODD_KEY]


def test_the_column_has_the_keys_and_the_shards_of_the_features(project: Path) -> None:
    negatives.run(ARGS)
    features = manifest.load(Path("features/vit"), FeatureManifest)
    mined = manifest.load(Path("negatives"), NegativesManifest)
    assert list(mined.shards) == sorted(features.shards)
    assert (mined.encoder, mined.weights, mined.per_picture) == ("vit", features.weights.sha256, 2)
    for name in mined.shards:
        keys = [index.load(Path(folder, f"{name}.tar")).keys() for folder in ("features/vit", "negatives")]
        assert keys[0] == keys[1]


def test_an_absent_picture_has_no_neighbours_and_is_none(project: Path) -> None:
    tokens = {name: by_hand.vector(number) for number, (_, _, name, *_) in enumerate(by_hand.PLACES)}
    by_hand.features(project, tokens | {"10": np.zeros((0, 4), np.float16)})
    negatives.run(ARGS)
    near = load("gqa-000")
    assert near["10"].key == [] and near["1"].key == [] and near["2"].key == []


def test_features_of_other_pictures_are_refused(project: Path) -> None:
    from polars import read_parquet

    path = Path("images/catalogue.parquet")
    read_parquet(path).filter(picture="1").write_parquet(path)
    with pytest.raises(MismatchError, match="not of the pictures"):
        negatives.run(ARGS)
    assert not Path("negatives").exists()


def test_two_runs_write_the_same_bytes(project: Path) -> None:
    negatives.run(ARGS)
    first = {path.name: path.read_bytes() for path in Path("negatives").iterdir()}
    negatives.run(ARGS)
    assert first == {path.name: path.read_bytes() for path in Path("negatives").iterdir()}


def test_without_cls_a_picture_is_its_mean_token() -> None:
    tokens = np.array([[1, 0], [0, 3]], np.float16)
    assert negatives.pooled(tokens, cls=True).tolist() == [1, 0]
    assert negatives.pooled(tokens, cls=False).tolist() == [0.5, 1.5]


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 6), st.integers(1, 5))
def test_neighbours_equal_a_plain_sort(seed: int, pictures: int, groups: int, wanted: int) -> None:
    draw = np.random.default_rng(seed)
    vectors = neighbours.normalised(draw.integers(-2, 3, (pictures, 3)).astype(np.float32))  # many ties
    group = draw.integers(0, groups, pictures)
    found = list(neighbours.nearest(vectors, group, wanted))
    assert len(found) == pictures
    for row, (rows, cosines) in enumerate(found):
        scores = (vectors.astype(np.float64) * vectors[row]).sum(1)
        others = [other for other in range(pictures) if group[other] != group[row]]
        plain = sorted(others, key=lambda other: (-scores[other], other))[:wanted]
        assert rows.tolist() == plain
        assert cosines.tolist() == scores[plain].tolist()


def test_one_matrix_or_many_blocks_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = neighbours.normalised(np.random.default_rng(1).normal(size=(300, 16)).astype(np.float32))
    groups = np.arange(300)

    def found(block: int) -> list[tuple[list[int], list[float]]]:
        monkeypatch.setattr(neighbours, "BLOCK", block)
        return [(rows.tolist(), scores.tolist()) for rows, scores in neighbours.nearest(vectors, groups, 8)]

    assert found(7) == found(256) == found(1024)
