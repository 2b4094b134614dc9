"""A column that DVC's cache holds is linked and not encoded again; what was not fetched is asked for."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from column_project import build, draw, write_catalogue, write_params

from contract.errors import MismatchError
from data_pipeline.__main__ import main
from data_pipeline.features import dvc_cache, feature_shard

COLUMN, WORK, CACHE = Path("features/esam"), Path(".work"), Path(".dvc/cache/files/md5")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project whose column was built and is in DVC's cache, and nowhere else."""
    build(tmp_path)
    monkeypatch.chdir(tmp_path)
    feature_shard._loaded.cache_clear()
    main(["features", "esam"])
    commit()
    clean()
    yield tmp_path


def commit() -> None:
    """What `dvc repro` does behind a stage: the folder's files into the cache, its `.dir` into dvc.lock."""
    rows = [{"md5": store(path.read_bytes()), "relpath": path.name} for path in sorted(COLUMN.iterdir())]
    listing = store(json.dumps(rows).encode(), ".dir")
    outs = [{"path": "features/esam", "hash": "md5", "md5": listing}]
    Path("dvc.lock").write_text(
        yaml.safe_dump({"schema": "2.0", "stages": {"features@esam": {"outs": outs}}})
    )


def store(content: bytes, ending: str = "") -> str:
    name = hashlib.md5(content, usedforsecurity=False).hexdigest() + ending
    cached(name).parent.mkdir(parents=True, exist_ok=True)
    cached(name).write_bytes(content)
    return name


def cached(name: str) -> Path:
    return CACHE / name[:2] / name[2:]


def clean() -> None:
    """As DVC does before the stage, on a machine where it never ran."""
    for folder in (COLUMN, WORK):
        shutil.rmtree(folder, ignore_errors=True)


def listing() -> tuple[Path, dict[str, str]]:
    """The `.dir` object that dvc.lock names, and what it lists."""
    name = dvc_cache.locked_object(COLUMN)
    assert name is not None
    return cached(name), {row["relpath"]: row["md5"] for row in json.loads(cached(name).read_bytes())}


def contents() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(COLUMN.iterdir())}


def run(capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    main(["features", "esam"])
    return next(line for line in capsys.readouterr().out.splitlines() if "shards encoded" in line)


def test_a_column_in_the_cache_is_linked_whole(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, files = listing()
    assert "0 shards encoded, 4 out of DVC's cache" in run(capsys)
    assert {name: hashlib.md5(content).hexdigest() for name, content in contents().items()} == files
    for name in ("gqa-000.tar", "gqa-000.tar.idx"):
        assert (COLUMN / name).stat().st_ino == cached(files[name]).stat().st_ino


def test_a_changed_picture_encodes_its_shard_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(project, 3, version=1)
    write_catalogue(project)
    assert "1 shards encoded, 3 out of DVC's cache" in run(capsys)
    after = contents()
    clean()
    shutil.rmtree(".dvc")
    Path("dvc.lock").unlink()
    assert "4 shards encoded" in run(capsys)
    assert contents() == after  # whence a tar came changes no byte


def test_an_older_version_is_found_without_a_lock(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("dvc.lock").unlink()
    assert "4 out of DVC's cache" in run(capsys)
    draw(project, 3, version=1)
    write_catalogue(project)
    main(["features", "esam"])
    commit()
    clean()
    draw(project, 3)
    write_catalogue(project)
    assert "0 shards encoded, 4 out of DVC's cache" in run(capsys)


def test_the_work_folder_comes_first(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["features", "esam"])
    shutil.rmtree(".dvc/cache")
    assert "0 shards encoded, 0 out of DVC's cache, 4 kept" in run(capsys)


def test_another_setting_finds_nothing_of_use(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_params(project, batch=5)
    assert "4 shards encoded" in run(capsys)


@pytest.mark.parametrize("lost", ["listing", "tasks.json", "gqa-000.tar", "gqa-000.tar.idx"])
def test_what_was_not_fetched_is_asked_for(
    project: Path, capsys: pytest.CaptureFixture[str], lost: str
) -> None:
    path, files = listing()
    (path if lost == "listing" else cached(files[lost])).unlink()
    with pytest.raises(MismatchError, match="not in DVC's cache") as caught:
        main(["features", "esam"])
    assert "dvc fetch features/esam" in str(caught.value.fix)
    assert not COLUMN.exists()
    settings = yaml.safe_load(Path("params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump(settings | {"encode_unfetched": True}))
    assert f"{1 if lost.startswith('gqa') else 4} shards encoded" in run(capsys)


def test_new_pictures_need_nothing_that_was_not_fetched(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lock's column is there; what it does not hold is encoded without a question."""
    draw(project, 10, version=1)
    write_catalogue(project)
    assert "1 shards encoded, 3 out of DVC's cache" in run(capsys)


@pytest.mark.parametrize("part", ["gqa-000.tar", "gqa-000.tar.idx", "tasks.json"])
def test_a_damaged_object_is_not_used(project: Path, capsys: pytest.CaptureFixture[str], part: str) -> None:
    _, files = listing()
    whole = contents_of_a_fresh_run(capsys)
    path = cached(files[part])
    path.write_bytes(path.read_bytes()[:-600])
    Path("dvc.lock").unlink()
    assert f"{4 if part == 'tasks.json' else 1} shards encoded" in run(capsys)
    assert contents() == whole


def contents_of_a_fresh_run(capsys: pytest.CaptureFixture[str]) -> dict[str, bytes]:
    run(capsys)
    whole = contents()
    clean()
    return whole


def test_an_index_of_other_pictures_is_not_used(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """gqa-000 and gqa-001 are of one size: only their keys tell them apart."""
    path, files = listing()
    swap = {"gqa-000.tar": "gqa-001.tar", "gqa-000.tar.idx": "gqa-001.tar.idx"}
    rows = [{"md5": files[swap.get(name, name)], "relpath": name} for name in files]
    path.write_text(json.dumps(rows))
    Path("dvc.lock").unlink()
    assert "1 shards encoded, 3 out of DVC's cache" in run(capsys)


def test_a_list_that_leaves_the_cache_is_not_read(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, files = listing()
    path.write_text(json.dumps([{"md5": "../../../../etc/passwd", "relpath": name} for name in files]))
    Path("dvc.lock").unlink()
    assert "4 shards encoded, 0 out of DVC's cache" in run(capsys)


def test_files_of_another_file_system_are_copied(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path, link: Callable[[Path, Path], None] = os.link) -> None:
        if CACHE in source.parents:
            raise OSError("another file system")
        link(source, target)

    monkeypatch.setattr(os, "link", refuse)
    _, files = listing()
    assert "4 out of DVC's cache" in run(capsys)
    assert (COLUMN / "gqa-000.tar").stat().st_ino != cached(files["gqa-000.tar"]).stat().st_ino
    assert (COLUMN / "gqa-000.tar").read_bytes() == cached(files["gqa-000.tar"]).read_bytes()


def test_the_cache_lies_where_dvcs_settings_put_it(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(".dvc/cache").rename(project / "team")
    Path(".dvc/config.local").write_text("[cache]\n    dir = ../team\n")
    objects = dvc_cache.objects()
    assert objects is not None and objects.resolve() == project / "team/files/md5"
    assert "4 out of DVC's cache" in run(capsys)


def test_a_project_without_dvc_has_no_cache(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(".dvc")
    assert dvc_cache.objects() is None
    assert "4 shards encoded" in run(capsys)
