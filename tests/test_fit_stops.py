"""A run that is asked to end, one that goes on by itself, and one that leaves damaged pictures out."""

import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path
from unittest.mock import Mock

import pytest
import synthetic
from safetensors.numpy import load_file

from contract import index, tar
from contract.errors import ShardError
from training import fit
from training.optimizing import checkpoint
from training.shards import open_shards
from training.stream import Stream

ROOT = Path(__file__).parents[1]
HERE = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    synthetic.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def weights(run: Path) -> dict[str, bytes]:
    tensors = load_file(checkpoint.find(run, "last") / "model.safetensors")
    return {name: array.tobytes() for name, array in tensors.items()}


def runs() -> list[Path]:
    return sorted(Path("runs").iterdir())


def test_a_run_that_is_asked_to_end_leaves_a_checkpoint_and_says_so_by_its_status(world):
    command = ["--set", "optim.epochs=3", "checkpoint_every=1000"]
    runs = [[*command, "--run", "runs/ended", "STOP=5"]]
    fits = [sys.executable, str(ROOT / "tests/several_fits.py"), json.dumps(runs)]
    ended = subprocess.run(fits, env=HERE, capture_output=True, text=True, check=False)
    assert ended.returncode == 143, ended.stderr
    assert "stopped by SIGTERM after 6 steps" in ended.stdout and "--resume runs/ended" in ended.stdout
    fit.main(["--resume", "runs/ended"])
    fit.main([*command, "--run", "runs/whole"])
    assert weights(Path("runs/ended")) == weights(Path("runs/whole"))


def test_auto_begins_a_run_once_and_then_goes_on_with_it(world, capsys):
    command = ["--resume", "auto", "--set", "optim.epochs=1"]
    assert fit.main(command) == 0
    (first,) = runs()
    fit.main(command)
    assert runs() == [first] and f"run      {first}" in capsys.readouterr().out


def test_a_kill_while_a_run_is_made_leaves_nothing_in_the_way(world, monkeypatch):
    command = ["--resume", "auto", "--run", "runs/mine", "--set", "optim.epochs=1"]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("training.run.manifest.save", Mock(side_effect=KeyboardInterrupt))
        fit.main(command)
    assert fit.main(command) == 0


@pytest.mark.parametrize(
    "other", [["--set", "optim.epochs=1", "model.dropout=0.2"], ["--set", "optim.epochs=1", "--blind"]]
)
def test_auto_does_not_go_on_with_another_run(world, other):
    fit.main(["--run", "runs/other", *other])
    fit.main(["--resume", "auto", "--set", "optim.epochs=1"])
    assert len(runs()) == 2


def test_auto_with_a_named_run_makes_it_or_goes_on_with_it(world):
    command = ["--resume", "auto", "--run", "runs/mine", "--set", "optim.epochs=1"]
    fit.main(command)
    fit.main(command)
    assert runs() == [Path("runs/mine")]


def test_a_damaged_picture_is_left_out_named_and_counted(world, capsys):
    path = Path("features/vit/toy-000.tar")
    content = bytearray(path.read_bytes())
    content[int(index.load(path).rows["offset"][0, 0]) + 700] ^= 1
    path.write_bytes(content)
    with pytest.raises(ShardError, match=r"p0000\.vit\.npy is damaged"):
        fit.main(["--run", "runs/stopped", "--set", "development=0"])
    fit.main(["--run", "runs/skipped", "--set", "development=0", "on_error=skip"])
    assert "p0000.vit.npy is damaged" in capsys.readouterr().err
    assert Path("runs/skipped/plots/metrics/train/skipped.tsv").read_text().splitlines()[-1].endswith("1.0")


@pytest.mark.parametrize("folder", ["data", "features/vit"])
def test_what_no_index_vouches_for_is_left_out_named_and_counted_too(world, capsys, folder):
    path = Path(folder, "toy-000.tar")
    content = bytearray(path.read_bytes())
    content[int(index.load(path).rows["offset"][1, 0]) + tar.BLOCK] = 0
    path.write_bytes(content)
    index.index_path(path).unlink()
    with pytest.raises(ShardError, match=r"p0004\."):
        fit.main(["--run", "runs/stopped", "--set", "development=0"])
    assert not Path("runs").exists()
    skip = ["development=0", "on_error=skip"]
    fit.main(["--run", "runs/skipped", "--set", *skip, "optim.epochs=1"])
    assert "p0004." in capsys.readouterr().err
    assert Path("runs/skipped/plots/metrics/train/skipped.tsv").read_text().splitlines()[-1].endswith("1.0")
    fit.main(["--resume", "runs/skipped"])
    with pytest.raises(ShardError, match=r"p0004\."):
        fit.main(["--resume", "runs/skipped", "--set", "on_error=stop"])


def test_a_plan_tells_the_first_and_the_last_keys_and_trains_nothing(world, monkeypatch, capsys):
    monkeypatch.setattr("training.forecast.READ_SECONDS", 0.01)
    options = ["--set", "optim.epochs=2", "optim.accumulate=2", "development=0"]
    fit.main(["--plan", *options])
    said = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert not Path("runs").exists()
    shards = open_shards(["data"], ["vit", "esam"])
    batches = list(islice(Stream(shards, ["vqa"], batch=4, seed=3), 20))
    assert said["first"] == ", ".join(batches[0].keys[:3])
    assert said["last"] == ", ".join(batches[-1].keys[-3:])
    assert said["step"].startswith(f"{8 * (17 * 8 + 16 * 6) * 2 / 2**20:.1f} MiB")


def test_a_run_begun_from_another_and_killed_before_its_first_checkpoint_keeps_those_weights(
    world, monkeypatch
):
    fit.main(["--run", "runs/first", "--set", "optim.epochs=1"])
    begun = ["--init", "runs/first", "--set", "optim.epochs=1", "--run"]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("training.optimizing.loop.train", Mock(side_effect=KeyboardInterrupt))
        fit.main([*begun, "runs/killed"])
    fit.main(["--resume", "runs/killed"])
    fit.main([*begun, "runs/whole"])
    assert weights(Path("runs/killed")) == weights(Path("runs/whole"))
