"""Runs on small shards: resume, init, errors, evaluation. In a process where the process is the point."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import synthetic
from safetensors.numpy import load_file

from contract.errors import FuselineError, MismatchError, ParamsError, ShardError, TrainingError
from training import checkpoint, evaluate, fit

ROOT = Path(__file__).parents[1]


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    synthetic.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(*arguments: str) -> None:
    fit.main([*arguments])


def losses(run: Path) -> list[tuple[int, str]]:
    lines = (run / "plots/metrics/train/loss.tsv").read_text().splitlines()
    columns = lines[0].split("\t")
    rows = [dict(zip(columns, line.split("\t"), strict=True)) for line in lines[1:]]
    return [(int(row["step"]), row["loss"]) for row in rows]


def weights(run: Path) -> dict[str, bytes]:
    tensors = load_file(checkpoint.find(run, "last") / "model.safetensors")
    return {name: array.tobytes() for name, array in tensors.items()}


def test_a_killed_run_goes_on_as_if_it_had_not_been(world):
    options = ["--set", "optim.epochs=30", "masking.ratio=0.25"]
    train("--run", "runs/whole", *options)
    command = [sys.executable, "-m", "training.fit", "--run", "runs/killed", *options]
    process = subprocess.Popen(command, env={"PYTHONPATH": str(ROOT), "PATH": ""}, stderr=subprocess.DEVNULL)
    _wait_for(lambda: len(losses(Path("runs/killed"))) >= 20)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    train("--resume", "runs/killed")
    assert losses(Path("runs/killed")) == losses(Path("runs/whole"))
    assert weights(Path("runs/killed")) == weights(Path("runs/whole"))


def _wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return
        except (FileNotFoundError, IndexError):
            pass
        time.sleep(0.01)
    raise AssertionError("the run made no progress")


def test_accumulation_counts_optimizer_steps(world):
    train("--run", "runs/a", "--set", "optim.accumulate=4")
    train("--run", "runs/b")
    assert [step for step, _ in losses(Path("runs/a"))] == [step for step, _ in losses(Path("runs/b"))]


def test_init_takes_what_fits_and_lists_what_is_new(world, capsys):
    train("--run", "runs/a")
    train("--run", "runs/b", "--init", "runs/a", "--set", "fusion.kind=none")
    assert "0 new" in capsys.readouterr().out
    train("--run", "runs/c", "--init", "runs/b")
    assert "picture.fusion.gate.weight" in capsys.readouterr().out


def test_learning_and_evaluation(world):
    synthetic.build(world, train=300, val=60)
    train(
        "--run",
        "runs/a",
        "--set",
        "optim.epochs=25",
        "optim.batch=32",
        "log_every=50",
        "checkpoint_every=1000",
    )
    train("--run", "runs/blind", "--blind")
    evaluate.main(
        ["--run", "runs/a", "--blind", "runs/blind", "--out", "scores.json", "--by-type", "types.json"]
    )
    scores = json.loads(Path("scores.json").read_text())["vqa"]
    assert scores["accuracy"] > scores["shuffled_pictures"] + 0.2
    assert scores["accuracy"] > max(scores["blind"], scores["majority"]) + 0.2
    assert scores["questions"] == 120 == sum(kind["questions"] for kind in scores["by_type"].values())
    assert {row["type"] for row in json.loads(Path("types.json").read_text())} == {
        "choose/left",
        "choose/top",
    }


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--shards", "nowhere"], ShardError, "no such shard"),
        (
            ["--shards", "data/toy-<000..009>.tar"],
            ShardError,
            r"missing 004–009[\s\S]*data/ holds toy-000–003",
        ),
        (["--shards", "data/toy-val-000.tar"], ShardError, "is of split 'val'"),
        (["--shards", "data/tay-*.tar"], ShardError, "holds no shard"),
        (["--set", "optim.epoch=3"], ParamsError, "did you mean 'epochs'"),
        (["--set", "fusion.kind=gatd"], ParamsError, "did you mean 'gated'"),
        (["--set", "optim.accumulate=3"], ParamsError, "not a multiple"),
        (["--set", "inputs.grid=dino"], ShardError, "no such manifest"),
        (["--set", "tasks.vqq={}"], ParamsError, "unknown task 'vqq'"),
        (["--resume", "runs/none"], ParamsError, "is not a run"),
        (["--resume", "runs/none", "--blind"], ParamsError, "does not go with --resume"),
        (["--params", "other.yaml"], ParamsError, "no such file"),
        (["--device", "tpu9"], ParamsError, "unknown device"),
    ],
)
def test_a_users_mistake_is_one_clear_error(world, arguments, error, message):
    with pytest.raises(error, match=message):
        train(*arguments)
    assert not list(Path().glob("runs/*/config.json"))


def test_the_command_says_the_error_without_a_traceback(world):
    command = [sys.executable, "-m", "training.fit", "--shards", "nowhere"]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: nowhere: no such shard") and "Traceback" not in done.stderr


def test_a_run_does_not_take_features_of_other_weights(world):
    train("--run", "runs/a")
    path = world / "features" / "vit" / "manifest.json"
    path.write_text(path.read_text().replace("vit-weights", "other-weights"))
    with pytest.raises(MismatchError, match=r"features/vit.weights"):
        train("--resume", "runs/a")
    with pytest.raises(MismatchError, match=r"features/vit.weights"):
        evaluate.main(["--run", "runs/a"])


def test_a_checkpoint_of_another_model_is_refused(world):
    train("--run", "runs/a")
    train("--run", "runs/b", "--set", "model.hidden=16")
    other = checkpoint.find(Path("runs/b"), "last") / "model.safetensors"
    (checkpoint.find(Path("runs/a"), "last") / "model.safetensors").write_bytes(other.read_bytes())
    with pytest.raises(MismatchError, match="checkpoint of another model"):
        train("--resume", "runs/a")


def test_a_loss_that_is_not_finite_names_the_pictures(world):
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf)[\s\S]*pictures p0"):
        train("--run", "runs/a", "--set", "optim.learning_rate=1e30", "optim.clip=1e30", "optim.epochs=50")


def test_a_run_is_not_overwritten(world):
    train("--run", "runs/a")
    before = weights(Path("runs/a"))
    with pytest.raises(FuselineError, match="is a run already"):
        train("--run", "runs/a")
    assert weights(Path("runs/a")) == before
