"""Manifests: what is saved is loaded; a damaged one is an error that says so, whatever the damage."""

from pathlib import Path

import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st

from contract import manifest
from contract.errors import MismatchError, ShardError
from contract.manifest import DataManifest


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("manifests")
    synthetic.build(folder, train=2, val=1, shards=1)
    return folder / "data"


def test_a_manifest_is_saved_as_it_was_loaded(data: Path) -> None:
    before = (data / manifest.NAME).read_bytes()
    manifest.save(data, manifest.load(data, DataManifest))
    assert (data / manifest.NAME).read_bytes() == before


@given(st.data())
def test_any_damaged_byte_gives_an_error_or_a_manifest(data: Path, draw: st.DataObject) -> None:
    path = data / manifest.NAME
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[draw.draw(st.integers(0, len(whole) - 1))] = draw.draw(st.integers(0, 255))
    try:
        path.write_bytes(damaged)
        assert isinstance(manifest.load(data, DataManifest), DataManifest)
    except MismatchError as error:
        assert error.where == str(path)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("content", [b'{"format":"\xff"}', b'{"params":' + b"[" * 100_000, b"[" * 100_000])
def test_bytes_that_are_no_json_are_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / manifest.NAME).write_bytes(content)
    with pytest.raises(MismatchError, match="is not JSON"):
        manifest.load(tmp_path, DataManifest)


def test_where_there_is_no_manifest_the_error_says_how_to_get_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path, tmp_path / "file"):
        with pytest.raises(ShardError, match="dvc pull"):
            manifest.load(folder, DataManifest)


def test_a_manifest_that_may_not_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / manifest.NAME).mkdir()
    with pytest.raises(ShardError, match=r"manifest\.json: cannot be read: Is a directory"):
        manifest.load(tmp_path, DataManifest)
