"""Stage features: the same bytes however it runs, nothing encoded twice, nothing lost in silence."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from column_project import PICTURES, build, draw, write_catalogue, write_params

from contract import codec, index, manifest, plain_yaml
from contract.errors import BudgetError, FuselineError, MismatchError, RawDataError
from contract.index import ABSENT
from contract.manifest import FeatureManifest
from contract.quantise import dequantise
from data_pipeline.__main__ import main
from data_pipeline.features import encode, feature_shard
from data_pipeline.features.stored_form import Absent, stored
from data_pipeline.features.transforms import transform
from data_pipeline.pictures.picture_files import open_picture
from data_pipeline.shards import shard_reader

COLUMN = Path("features/esam")
WORK = Path(".work/features/esam")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project of ten training pictures and one val picture, as the working directory."""
    build(tmp_path)
    monkeypatch.chdir(tmp_path)
    feature_shard._loaded.cache_clear()  # the encoder of another test's project
    yield tmp_path


def contents(folder: Path = COLUMN) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def arrays(shard: str, member: str = "esam.npy") -> dict[str, np.ndarray]:
    rows = shard_reader.members(COLUMN / f"{shard}.tar", member)
    return {key: codec.decode_array(content, key) for key, content, _ in rows}


def test_every_declared_shard_has_a_tar_and_every_picture_its_array(project: Path) -> None:
    main(["features", "esam"])
    column = manifest.load(COLUMN, FeatureManifest)
    assert {name: facts.samples for name, facts in column.shards.items()} == {
        "gqa-000": 5,
        "gqa-001": 5,
        "gqa-002": 0,
        "gqa-val-000": 1,
    }
    found = arrays("gqa-000") | arrays("gqa-001") | arrays("gqa-val-000")
    assert len(found) == PICTURES
    assert {(array.shape, array.dtype.name) for array in found.values()} == {((4, 8), "float16")}
    assert (column.tokens, column.width, column.weights.source) == (4, 8, "random")
    assert list(found) == [f"p{n:02d}" for n in [0, 2, 4, 6, 8, 1, 3, 5, 7, 9, 10]]


def test_features_are_the_encoders_own(project: Path) -> None:
    main(["features", "esam"])
    frozen = encode.load(encode.encoder_settings(manifest.load(COLUMN, FeatureManifest)))
    picture = np.asarray(open_picture(Path("pictures/3.png")).pixels)
    alone = encode.encode(frozen, transform(picture, "squash", 32)[None])[0]
    np.testing.assert_allclose(arrays("gqa-001")["p03"], alone, atol=2e-3)


def test_two_processes_write_the_same_bytes_as_one(project: Path, tmp_path: Path) -> None:
    main(["features", "esam"])
    alone = contents()
    other = tmp_path / "other"
    build(other, workers=2)
    run_stage(other)
    assert contents(other / COLUMN) == alone


def test_a_killed_run_goes_on_where_it_was(project: Path) -> None:
    main(["features", "esam"])
    whole, inodes = contents(), {path.name: path.stat().st_ino for path in WORK.glob("*.tar")}
    *kept, lost, cut = sorted(WORK.glob("*.json"))
    lost.unlink()  # its tar was written, but not said to be whole
    cut.with_suffix(".tar").unlink()
    cut.with_suffix(".tar").write_bytes(b"half a tar")
    main(["features", "esam"])
    assert contents() == whole
    for record in kept:
        tar = record.with_suffix(".tar")
        assert tar.stat().st_ino == inodes[tar.name]


def test_a_changed_picture_encodes_its_shard_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["features", "esam"])
    before, old = contents(), set(WORK.iterdir())
    draw(project, 3, version=1)
    write_catalogue(project)
    capsys.readouterr()
    main(["features", "esam"])
    assert "1 shards encoded, 0 out of DVC's cache, 3 kept" in capsys.readouterr().out
    after = contents()
    assert {name for name in before if before[name] != after[name]} == {
        "gqa-001.tar",
        "gqa-001.tar.idx",
        "manifest.json",
        "statistics.json",
        "tasks.json",
    }
    assert len(set(WORK.iterdir())) == len(old)  # the replaced tar is gone


def test_another_setting_that_shapes_the_features_is_another_task(project: Path) -> None:
    main(["features", "esam"])
    before = {name: facts.task for name, facts in manifest.load(COLUMN, FeatureManifest).shards.items()}
    build(project, batch=5)
    main(["features", "esam"])
    after = {name: facts.task for name, facts in manifest.load(COLUMN, FeatureManifest).shards.items()}
    assert not set(before.values()) & set(after.values())


def test_the_filling_of_a_batch_changes_no_bit(project: Path) -> None:
    main(["features", "esam"])
    before = arrays("gqa-val-000")["p10"]  # alone in its batch
    catalogue = pl.read_parquet("images/catalogue.parquet")
    moved = pl.when(pl.col("key") == "p09").then(pl.lit("gqa-val-000")).otherwise("shard").alias("shard")
    catalogue.with_columns(moved).with_columns(key=pl.col("key").replace("p09", "p99")).write_parquet(
        "images/catalogue.parquet"
    )
    main(["features", "esam"])
    np.testing.assert_array_equal(arrays("gqa-val-000")["p10"], before)


def test_a_damaged_picture_keeps_its_key_and_is_a_finding(project: Path) -> None:
    Path("pictures/4.png").write_bytes(Path("pictures/4.png").read_bytes()[:300])
    write_catalogue(project)
    main(["features", "esam"])
    known = index.load(COLUMN / "gqa-000.tar")
    assert [key for key, flags in zip(known.keys(), known.rows["flags"], strict=True) if flags & ABSENT] == [
        "p04"
    ]
    assert arrays("gqa-000")["p04"].shape == (0, 8)
    assert arrays("gqa-000")["p06"].shape == (4, 8)
    (row,) = pl.read_parquet(COLUMN / "findings.parquet").iter_rows(named=True)
    assert (row["table"], row["id"], row["outcome"], row["reason"]) == (
        "images",
        "p04",
        "reject",
        "picture_damaged",
    )
    main(["features", "esam"])  # from the work folder
    assert len(pl.read_parquet(COLUMN / "findings.parquet")) == 1


def test_a_picture_that_changed_behind_the_catalogue_is_an_error(project: Path) -> None:
    draw(project, 3, version=1)
    with pytest.raises(RawDataError, match="changed since it was scanned"):
        main(["features", "esam"])
    assert not COLUMN.exists()


@pytest.mark.parametrize("cut", [0, 300])
def test_a_file_that_is_gone_or_cut_since_the_scan_is_no_fault_of_the_picture(
    project: Path, cut: int
) -> None:
    """An unmounted disk must not become a column of absent pictures."""
    path = Path("pictures/3.png")
    content = path.read_bytes()
    path.unlink()
    if cut:
        path.write_bytes(content[:cut])
    with pytest.raises(RawDataError, match="since it was scanned"):
        main(["features", "esam"])
    path.write_bytes(content)
    main(["features", "esam"])
    assert pl.read_parquet(COLUMN / "findings.parquet").is_empty()


@pytest.mark.parametrize(
    ("value", "detail"), [(np.nan, "not finite"), (np.inf, "not finite"), (7e4, "70000")]
)
def test_what_float16_cannot_hold_is_no_feature(value: float, detail: str) -> None:
    tokens = np.zeros((4, 8), np.float32)
    tokens[1, 2] = value
    found = stored("p00", tokens, "float16")
    assert isinstance(found, Absent)
    assert found.reason == "feature_not_finite" and detail in found.detail
    largest = stored("p00", np.full((4, 8), 65504, np.float32), "float16")
    assert not isinstance(largest, Absent) and largest[0].dtype == np.float16


def test_an_int8_column_is_the_float16_one_within_half_a_step(project: Path) -> None:
    main(["features", "esam"])
    halves = arrays("gqa-000")
    build(project, dtype="int8")
    main(["features", "esam"])
    facts = manifest.load(COLUMN, FeatureManifest)
    assert (facts.dtype, facts.suffixes) == ("int8", ["esam.npy", "esam.scale.npy"])
    scales = arrays("gqa-000", "esam.scale.npy")
    for key, tokens in arrays("gqa-000").items():
        assert (tokens.dtype, scales[key].dtype) == (np.int8, np.float32)
        error = np.abs(dequantise(tokens, scales[key]) - halves[key])
        assert (error <= 0.5 * scales[key][:, None] + 2e-3).all()


def test_a_picture_without_features_has_no_tokens_and_no_scales(project: Path) -> None:
    Path("pictures/4.png").write_bytes(Path("pictures/4.png").read_bytes()[:300])
    write_params(project, dtype="int8")
    write_catalogue(project)
    main(["features", "esam"])
    assert arrays("gqa-000")["p04"].shape == (0, 8)
    assert arrays("gqa-000", "esam.scale.npy")["p04"].shape == (0,)


def test_statistics_are_those_of_the_stored_tokens(project: Path) -> None:
    shutil.copy("pictures/0.png", "pictures/2.png")
    write_catalogue(project)
    main(["features", "esam"])
    tokens = np.stack(list((arrays("gqa-000") | arrays("gqa-001") | arrays("gqa-val-000")).values()))
    found = json.loads((COLUMN / "statistics.json").read_bytes())
    norms = np.linalg.norm(tokens.astype(np.float64), axis=2)
    assert (found["pictures"], found["tokens"], found["duplicates"]) == (11, 44, 1)
    assert found["norm"] == pytest.approx(
        {"mean": norms.mean(), "min": norms.min(), "max": norms.max()}, 1e-3
    )
    assert 0 < found["error"]["float16"]["token"]["max"] < 2**-11
    assert 0.001 < found["error"]["int8"]["token"]["mean"] < found["error"]["int8"]["token"]["max"] < 0.02


@pytest.mark.parametrize("transform_name", ["target_pad", "letterbox", "centre_crop"])
def test_the_manifest_says_the_transform_and_the_output(project: Path, transform_name: str) -> None:
    build(project, transform=transform_name)
    main(["features", "esam"])
    column = manifest.load(COLUMN, FeatureManifest)
    assert (column.transform, column.output, column.dtype) == (transform_name, "tokens", "float16")


def test_weights_of_the_demo_are_for_generated_pictures(project: Path) -> None:
    from safetensors.torch import save_file

    frozen = encode.load(encode.encoder_settings(_column(project)))
    (project / "weights").mkdir()
    path = project / "weights/esam.safetensors"
    save_file(frozen.model.state_dict(), path, {"demo": "true"})
    build(project, generated=False, weights="weights/esam.safetensors")
    with pytest.raises(MismatchError, match="know nothing else"):
        main(["features", "esam"])
    build(project, generated=False, weights="weights/esam.safetensors", allow_demo_weights=True)
    main(["features", "esam"])
    assert manifest.load(COLUMN, FeatureManifest).weights.demo


def test_a_column_without_any_features_is_refused_by_the_projects_own_budget(project: Path) -> None:
    from safetensors.torch import save_file

    tensors = encode.load(encode.encoder_settings(_column(project))).model.state_dict()
    (project / "weights").mkdir()
    save_file({name: tensor * np.nan for name, tensor in tensors.items()}, "weights/nan.safetensors")
    build(project, weights="weights/nan.safetensors")
    own = plain_yaml.read(Path(__file__).parents[1] / "params.yaml")
    settings = plain_yaml.read(project / "params.yaml") | {"budgets": own["budgets"]}
    (project / "params.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(BudgetError, match="feature_not_finite"):
        main(["features", "esam"])


def test_a_file_system_without_links_holds_the_same_column(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["features", "esam"])
    linked = contents()

    def refuse(source: Path, target: Path) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    main(["features", "esam"])
    assert contents() == linked


def test_an_unknown_encoder_lists_those_there_are(project: Path) -> None:
    with pytest.raises(FuselineError, match="esam"):
        main(["features", "esan"])


def _column(project: Path) -> FeatureManifest:
    main(["features", "esam"])
    return manifest.load(COLUMN, FeatureManifest)


def run_stage(project: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "data_pipeline", "features", "esam"]
    subprocess.run(command, cwd=project, env=environment, check=True)
