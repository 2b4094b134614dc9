"""export: one tar per shard that stock webdataset reads, whole, the same bytes however it is made."""

import argparse
import shutil
from pathlib import Path

import numpy as np
import pytest
import synthetic
import webdataset
from msgspec.structs import replace

from contract import codec, index, manifest
from contract.errors import FuselineError, MismatchError, ShardError
from contract.files import sha256_file
from contract.index import index_path
from contract.manifest import DataManifest, ExportManifest
from data_pipeline.shards import shard_reader
from data_pipeline.stages import export
from training.shards import open_shards


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    synthetic.build(tmp_path, train=9, val=3, shards=2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(out: str = "exported", **options: object) -> Path:
    settings = {"out": Path(out), "shards": ["data"], "columns": None, "workers": 1} | options
    export.run(argparse.Namespace(**settings))
    return Path(out)


def members(path: Path, suffix: str) -> list[tuple[str, bytes, bool]]:
    return list(shard_reader.members(path, suffix))


def test_every_member_of_every_column_is_in_one_tar(project: Path) -> None:
    out = run()
    for shard in ("toy-000", "toy-001", "toy-val-000"):
        path = out / f"{shard}.tar"
        assert index.load(path).suffixes == ("json", "esam.npy", "vit.npy", "neg.json")
        columns = {"data": "json", "features/vit": "vit.npy", "negatives": "neg.json"}
        for folder, suffix in columns.items():
            assert members(path, suffix) == members(Path(folder, f"{shard}.tar"), suffix)
        texts = index.load(Path(f"data/{shard}.tar")).rows["texts"]
        assert np.array_equal(index.load(path).rows["texts"], texts)


def test_stock_webdataset_reads_it(project: Path) -> None:
    read = list(webdataset.WebDataset(str(run() / "toy-000.tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in read] == index.load(Path("data/toy-000.tar")).keys()
    for sample in read:
        assert codec.decode_record(sample["json"], "here").id == sample["__key__"]
        assert codec.decode_array(sample["vit.npy"], "here").shape == (17, 8)


def test_the_manifest_says_what_it_is(project: Path) -> None:
    out = run(columns="vit", shards=["data/toy-<000..001>.tar"])
    known = manifest.load(out, ExportManifest)
    assert known.self_contained and list(known.features) == ["vit"] and known.negatives is not None
    assert list(known.shards) == ["toy-000", "toy-001"]
    for name, facts in known.shards.items():
        assert facts.sha256 == sha256_file(out / f"{name}.tar")
        assert facts.index == sha256_file(index_path(out / f"{name}.tar"))
    assert sha256_file(out / "tokenizer.json") == known.tokenizer.sha256
    with pytest.raises(MismatchError):  # a reader of columns does not take it for records
        manifest.load(out, DataManifest)


def test_what_no_shard_holds_is_passed_on(project: Path) -> None:
    missing = {"toy": {"val": {"picture": 1}}}
    manifest.save(Path("data"), replace(manifest.load(Path("data"), DataManifest), missing=missing))
    assert manifest.load(run(), ExportManifest).missing == missing
    assert open_shards(["exported"], [], split="val").data.missing == missing


def test_the_bytes_do_not_depend_on_how_it_is_made(project: Path) -> None:
    held = [
        {path.name: path.read_bytes() for path in run(out, workers=workers).iterdir()}
        for out, workers in (("one", 1), ("two", 2), ("one", 2))
    ]
    assert held[0] == held[1] == held[2]


def test_a_column_of_other_pictures_is_refused(project: Path) -> None:
    for end in (".tar", ".tar.idx"):
        shutil.copy(f"features/vit/toy-001{end}", f"features/vit/toy-000{end}")
    with pytest.raises(ShardError, match="is not of the pictures of data/toy-000.tar"):
        run()
    assert not Path("exported").exists()


def test_damage_is_not_passed_on(project: Path) -> None:
    path = Path("features/vit/toy-000.tar")
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ShardError, match="damaged"):
        run()


@pytest.mark.parametrize(
    ("options", "problem"),
    [({"columns": "vitt"}, "did you mean 'vit'"), ({"shards": ["data/toy-007.tar"]}, "no such shard")],
)
def test_what_is_not_there_is_an_error(project: Path, options: dict[str, object], problem: str) -> None:
    with pytest.raises(FuselineError, match=problem):
        run(**options)


def test_a_column_named_twice_is_exported_once(project: Path) -> None:
    assert index.load(run(columns="vit,vit") / "toy-000.tar").suffixes == ("json", "vit.npy", "neg.json")


def test_a_file_is_not_replaced(project: Path) -> None:
    Path("exported").write_text("mine")
    with pytest.raises(MismatchError, match="is no export"):
        run()
    assert Path("exported").read_text() == "mine"


def test_a_folder_of_other_things_is_left_alone(project: Path) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("all of it")
    with pytest.raises(MismatchError, match="is no export"):
        run("mine")
    assert Path("mine/thesis.txt").read_text() == "all of it"
