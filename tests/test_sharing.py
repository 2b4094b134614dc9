"""Two people, two clones, one remote, by the commands of the README: what travels, what is made again."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec import Struct
from PIL import Image, ImageOps

from contract.files import sha256_file

ROOT = Path(__file__).parents[1]
CODE = ("contract", "data_pipeline", "training", "dvc.yaml", ".dvcignore", ".gitignore", ".gitattributes")
COLUMNS = ("data", "features/first", "features/second", "negatives")
BUILT = ("shards", "negatives", "features")  # what is asked of DVC: no training
TINY = {
    "architecture": "esam",
    "model": "efficient_sam_vitt",
    "weights": "random",
    "size": 32,
    "grid": 2,
    "options": {"embed_dim": 16, "num_heads": 2, "depth": 1, "neck_dim": 8},
}
SECOND = ["900001", "900002"]  # pictures of the second drop


class Team(Struct):
    """Where each works, and the remote between them."""

    a: Path
    b: Path
    remote: Path

    def stored(self) -> set[str]:
        """Everything on the remote."""
        return {str(path.relative_to(self.remote)) for path in self.remote.rglob("*") if path.is_file()}


def run(folder: Path, *command: str) -> str:
    """A command in a clone, as its owner types it; what it said."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"{' '.join(command)}\n{said}"
    return said


def git(folder: Path, *arguments: str) -> str:
    return run(folder, "git", "-c", "user.name=Team", "-c", "user.email=team@example.org", *arguments)


def settings(small: dict[str, Any]) -> dict[str, Any]:
    """params.yaml of a team: two datasets of its own, two encoders, nothing generated."""
    own = {
        name: {"format": name, "folder": f"raw/{name}", "raw": [{"path": "first", "shards": shards}]}
        for name, shards in (
            ("gqa", {"train": 3, "val": 1, "testdev": 1}),
            ("visual_genome", {"train": 1, "val": 1}),
        )
    }
    own["visual_genome"]["splits"] = {"train": 0.9, "val": 0.1}
    return {
        **small,
        "demo": {},
        "pretrain": {},
        "datasets": own,
        "encoders": {"first": TINY, "second": {**TINY, "grid": 1}},
        "negatives": {"encoder": "first"},
        "train": {"inputs": {"grid": "first"}, "optim": {"epochs": 0.2}},
    }


@pytest.fixture(scope="module")
def team(
    tmp_path_factory: pytest.TempPathFactory, world: Path, small_params: dict[str, Any]
) -> Iterator[Team]:
    """A has built everything from raw files that DVC keeps, and pushed; B has cloned and pulled nothing."""
    place = tmp_path_factory.mktemp("team")
    team = Team(place / "a", place / "b", place / "remote")
    team.a.mkdir()
    for name in CODE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, team.a / name)
    (team.a / "params.yaml").write_text(yaml.safe_dump(settings(small_params), sort_keys=False))
    for name in ("gqa", "visual_genome"):
        shutil.copytree(world / "raw/demo" / name, team.a / "raw" / name / "first")
        shutil.move(team.a / "raw" / name / "first/GENERATED.json", team.a / "raw" / name)
    (team.a / "weights").mkdir()
    (team.a / "weights/README.md").touch()
    git(team.a, "init", "--quiet")
    run(team.a, "dvc", "init", "--quiet")
    run(team.a, "dvc", "config", "cache.type", "hardlink,symlink")
    run(team.a, "dvc", "remote", "add", "--default", "team", str(team.remote))
    run(team.a, "dvc", "add", "raw/gqa", "raw/visual_genome")
    run(team.a, "dvc", "repro", *BUILT)
    git(team.a, "add", ".")
    git(team.a, "commit", "--quiet", "-m", "Everything, once")
    run(team.a, "dvc", "push")
    git(place, "clone", "--quiet", str(team.a), str(team.b))
    yield team


def contents(clone: Path, *folders: str) -> dict[str, str]:
    """Path → sha256 of every file below."""
    return {
        str(path.relative_to(clone)): sha256_file(path)
        for folder in folders
        for path in sorted((clone / folder).rglob("*"))
        if path.is_file()
    }


def test_one_dataset_and_one_encoder_can_be_pulled_alone(team: Team) -> None:
    clone = team.a.parent / "c"
    git(team.a.parent, "clone", "--quiet", str(team.a), str(clone))
    shards = [f"gqa-{number:03d}.tar" for number in range(3)]
    wanted = [f"{folder}/{name}" for folder in ("data", "features/first") for name in shards]
    wanted += [f"{path}.idx" for path in wanted]
    wanted += ["data/manifest.json", "data/tokenizer.json", "features/first/manifest.json"]
    run(clone, "dvc", "pull", *wanted)
    assert set(contents(clone, "data", "features", "negatives")) == set(wanted)
    said = run(clone, sys.executable, "-m", "training.fit", "--shards", "data/gqa-<000..002>.tar")
    assert "done:" in said


def test_a_colleague_gets_the_same_bytes_and_trains_without_building(team: Team) -> None:
    run(team.b, "dvc", "pull", "--allow-missing")
    assert contents(team.a, *COLUMNS) == contents(team.b, *COLUMNS)
    assert "up to date" in run(team.b, "dvc", "status", *BUILT)
    said = run(team.b, sys.executable, "-m", "training.fit", "--shards", "data/gqa-*.tar")
    assert "done:" in said


def test_another_box_threshold_moves_no_feature_file(team: Team) -> None:
    before, features = team.stored(), contents(team.a, "features")
    change(team.a, lambda params: params["boxes"].update(min_area=0.02))
    run(team.a, "dvc", "repro", *BUILT)
    git(team.a, "commit", "--quiet", "-am", "Smaller boxes go")
    run(team.a, "dvc", "push")
    assert contents(team.a, "features") == features
    new = {sha256_file(team.remote / path) for path in team.stored() - before}
    assert new and not new & set(features.values())
    assert new & set(contents(team.a, "data").values())


def test_a_new_drop_encodes_its_own_pictures_only(team: Team) -> None:
    git(team.b, "pull", "--quiet")
    run(team.b, "dvc", "pull", "--allow-missing")
    shutil.rmtree(team.b / ".work", ignore_errors=True)
    before = contents(team.b, "features")
    add_drop(team.b)
    said = run(team.b, "dvc", "repro", *BUILT)
    for encoder in ("first", "second"):
        assert f"features/{encoder}: 1 shards encoded, 7 out of DVC's cache" in said
    after = contents(team.b, "features")
    tars = {path for path in after if path.endswith(".tar")}
    assert {path for path in tars if after[path] != before.get(path)} == {
        f"features/{encoder}/gqa-003.tar" for encoder in ("first", "second")
    }


def change(clone: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit params.yaml."""
    path = clone / "params.yaml"
    content = yaml.safe_load(path.read_text())
    edit(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def add_drop(clone: Path) -> None:
    """Two more pictures with a question each, as a second delivery of GQA."""
    first, second = clone / "raw/gqa/first", clone / "raw/gqa/second"
    (second / "images").mkdir(parents=True)
    pictures = sorted((first / "images").glob("*.jpg"))
    graphs, questions = {}, {}
    for name, source in zip(SECOND, pictures, strict=False):
        changed(source, second / "images" / f"{name}.jpg")
        graphs[name] = {"width": 96, "height": 96, "objects": {}}
        questions[f"0{name}"] = {"question": "What is it?", "imageId": name, "answer": "ball"}
    (second / "train_sceneGraphs.json").write_text(json.dumps(graphs))
    (second / "train_balanced_questions.json").write_text(json.dumps(questions))
    drop = {"path": "second", "shards": {"train": 1}}
    change(clone, lambda params: params["datasets"]["gqa"]["raw"].append(drop))


def changed(source: Path, target: Path) -> None:
    """Another picture: the negative of one."""
    with Image.open(source) as picture:
        ImageOps.invert(picture.convert("RGB")).save(target, quality=95)
