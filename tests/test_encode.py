"""Command encode: one picture, as the column has it."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from column_project import TINY, build

from contract import codec, manifest
from contract.errors import FuselineError, MismatchError, ShardError
from contract.manifest import FeatureManifest
from data_pipeline.__main__ import main
from data_pipeline.features import feature_shard
from data_pipeline.pictures.picture_files import decode_rgb
from data_pipeline.shards import shard_reader

COLUMN = Path("features/esam")


@pytest.fixture
def column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FeatureManifest:
    """A finished column in the working directory."""
    build(tmp_path)
    monkeypatch.chdir(tmp_path)
    feature_shard._loaded.cache_clear()
    main(["features", "esam"])
    return manifest.load(COLUMN, FeatureManifest)


def encode(
    out: str = "out", image: str = "pictures/5.png", column: str = str(COLUMN / "manifest.json")
) -> None:
    main(["encode", "--image", image, "--manifest", column, "--out", out])


def test_a_picture_is_encoded_as_its_column_has_it(column: FeatureManifest) -> None:
    encode()
    found = codec.decode_array(Path("out/esam.npy").read_bytes(), "out")
    rows = shard_reader.members(COLUMN / "gqa-001.tar", "esam.npy")
    stored = {key: codec.decode_array(content, key) for key, content, _ in rows}["p05"]
    assert (found.shape, found.dtype) == (stored.shape, stored.dtype)
    np.testing.assert_allclose(found, stored, atol=2e-3)
    size = json.loads(Path("out/size.json").read_text())
    assert decode_rgb(Path("out/picture.jpg")).shape == (size["height"], size["width"], 3)


def test_params_need_not_name_the_encoder_any_more(column: FeatureManifest) -> None:
    settings = yaml.safe_load(Path("params.yaml").read_text())
    settings["encoders"]["esam"]["options"] = TINY | {"depth": 2}
    Path("params.yaml").write_text(yaml.safe_dump(settings))
    encode(column=str(COLUMN))
    assert Path("out/esam.npy").is_file()


def test_other_weights_and_other_code_are_refused(column: FeatureManifest) -> None:
    column.weights.sha256 = "0" * 64
    manifest.save(COLUMN, column)
    with pytest.raises(MismatchError, match="its weights changed since the features were made"):
        encode()
    assert not Path("out/esam.npy").exists()


def test_a_missing_picture_or_column_is_named(column: FeatureManifest) -> None:
    with pytest.raises(FuselineError, match="nobody.png"):
        encode(image="nobody.png")
    with pytest.raises(ShardError, match="no such manifest"):
        encode(column="features/vit/manifest.json")
