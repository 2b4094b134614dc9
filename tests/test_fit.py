"""Runs on small shards: resume, init, errors, evaluation. In a process where the process is the point."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import pytest
import synthetic
import torch
from safetensors.numpy import load_file

from contract.errors import FuselineError, MismatchError, ParamsError, ShardError, TrainingError
from training import evaluate, fit
from training.optimizing import checkpoint, development, step
from training.optimizing.log import Log
from training.starting import preparing

ROOT = Path(__file__).parents[1]
HERE = {**os.environ, "PYTHONPATH": str(ROOT)}


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
    fit_in_a_process = [sys.executable, "-m", "training.fit", *options, "--run"]
    subprocess.run([*fit_in_a_process, "runs/whole"], env=HERE, capture_output=True, check=True)
    process = subprocess.Popen([*fit_in_a_process, "runs/killed"], env=HERE, stderr=subprocess.DEVNULL)
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


class Stopped(Exception):
    """A kill at a certain step."""


def stopped_run(monkeypatch, run: str, step: int, *settings: str) -> None:
    """A run that ends as if killed just after the checkpoint of `step`."""
    save = checkpoint.save

    def until(folder, model, optimizer, state, best):
        save(folder, model, optimizer, state, best)
        if state.step == step:
            raise Stopped

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(checkpoint, "save", until)
        train("--run", run, "--set", "log_every=1", *settings)


def test_lines_of_the_log_span_checkpoints(world, monkeypatch):
    settings = ["optim.epochs=8", "log_every=10", "checkpoint_every=3"]
    train("--run", "runs/whole", "--set", *settings)
    stopped_run(monkeypatch, "runs/killed", 18, *settings)
    train("--resume", "runs/killed")
    for name in ("loss", "vqa/accuracy"):
        path = Path(f"plots/metrics/train/{name}.tsv")
        assert ("runs/killed" / path).read_bytes() == ("runs/whole" / path).read_bytes()


@pytest.mark.parametrize("failing", [1, 3])
def test_an_epoch_whose_score_failed_is_scored_when_the_run_goes_on(world, monkeypatch, failing):
    settings = ["optim.epochs=3", "development=0.3"]
    train("--run", "runs/whole", "--set", *settings)
    score, calls = development.held_out, count(1)

    def but_once(*of):
        if next(calls) == failing:
            raise Stopped
        return score(*of)

    monkeypatch.setattr(development, "held_out", but_once)
    monkeypatch.setattr(preparing, "FEW", 0)
    with pytest.raises(Stopped):
        train("--run", "runs/failed", "--set", *settings)
    train("--resume", "runs/failed")
    assert next(calls) == 5, "three epochs and one more attempt"
    whole = left_by("runs/whole")
    assert "checkpoints/best.json" in whole and left_by("runs/failed") == whole
    train("--resume", "runs/failed")
    assert next(calls) == 6 and left_by("runs/failed") == whole, "what was scored is not scored again"


def left_by(run: str) -> dict[str, bytes]:
    """All that a run leaves but how long it took."""
    files = [*Path(run, "checkpoints").rglob("*.*"), *Path(run, "plots/metrics/development").rglob("*.tsv")]
    return {str(path.relative_to(run)): path.read_bytes() for path in files if path.is_file()}


@pytest.mark.parametrize("left", ["", '{"train": {"lo'])
def test_a_kill_in_the_middle_of_the_log_does_not_prevent_resuming(world, monkeypatch, left):
    train("--run", "runs/whole")
    stopped_run(monkeypatch, "runs/killed", 3)
    run = Path("runs/killed")
    (run / "metrics.json").write_text(left)
    with (run / "plots/metrics/train/loss.tsv").open("a") as file:
        file.write("3\t0.6\textra\n4\t0.5\n5\t0.")
    (run / "plots/metrics/train/learning_rate.tsv").write_text("")
    train("--resume", "runs/killed")
    assert losses(run) == losses(Path("runs/whole"))
    assert weights(run) == weights(Path("runs/whole"))


def test_a_log_without_a_line_is_begun_anew(tmp_path):
    path = tmp_path / "plots" / "metrics" / "loss.tsv"
    path.parent.mkdir(parents=True)
    for content in ("", "st", "step\tloss\n", "step\tloss\n9\t0.1\n"):
        path.write_text(content)
        with Log(tmp_path, 8, 4) as log:
            log.step(5, {"loss": 0.5}, {})
        assert path.read_text() == "step\tloss\n5\t0.5\n"


def test_a_run_goes_on_with_the_threads_that_it_began_with(world, capsys):
    train("--run", "runs/a", "--set", "optim.epochs=1")
    path, here = Path("runs/a/config.json"), torch.get_num_threads()
    stored = json.loads(path.read_text())
    assert stored["torch_threads"] == here
    path.write_text(json.dumps(stored | {"torch_threads": here + 1}))
    try:
        train("--resume", "runs/a")
        assert torch.get_num_threads() == here + 1
        assert f"threads  {here + 1} for the arithmetic" in capsys.readouterr().out
    finally:
        torch.set_num_threads(here)


def test_threads_are_told_not_to_spin_before_torch_is_there():
    code = "import os, sys, training; print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    environment = {name: value for name, value in HERE.items() if name != "GOMP_SPINCOUNT"}
    said = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert said.split() == ["10000", "False"]


def test_a_run_without_a_name_looks_at_no_other(world):
    Path("runs/new").mkdir(parents=True)
    Path("runs/new/x").touch()
    train("--set", "optim.epochs=1")
    assert [path.name for path in Path("runs").glob("[0-9]*-vqa*")] != []


def test_where_no_run_can_be_made_is_said_before_the_shards_are_opened(world):
    Path("runs").touch()
    with pytest.raises(ParamsError, match="runs: cannot be written"):
        train("--shards", "nowhere")


def test_the_best_is_pointed_at_before_the_last(world, monkeypatch):
    written = []
    write = checkpoint.write_atomic
    monkeypatch.setattr(
        checkpoint, "write_atomic", lambda path, content: (written.append(path.name), write(path, content))
    )
    train("--run", "runs/a", "--set", "checkpoint_every=100", "optim.epochs=1")
    assert written == ["best.json", "last.json"]


@pytest.mark.parametrize("content", ["", "{}", '{"step": "x"}', '{"a": ' + "[" * 100_000])
def test_a_broken_pointer_is_said(world, content):
    train("--run", "runs/a")
    Path("runs/a/checkpoints/best.json").write_text(content)
    with pytest.raises(MismatchError, match=r"best\.json: does not name a checkpoint"):
        evaluate.main(["--run", "runs/a"])


def test_the_same_settings_leave_the_same_bytes(world):
    train("--run", "runs/a")
    train("--run", "runs/b")
    first, second = (
        {
            str(p.relative_to(f"runs/{run}")): p.read_bytes()
            for p in Path("runs", run).rglob("*")
            if p.is_file()
        }
        for run in "ab"
    )
    assert first == second and "metrics.json" in first


def test_accumulation_counts_optimizer_steps(world):
    train("--run", "runs/a", "--set", "optim.accumulate=4")
    train("--run", "runs/b")
    assert [step for step, _ in losses(Path("runs/a"))] == [step for step, _ in losses(Path("runs/b"))]


def test_accumulated_parts_weigh_by_their_texts(world, monkeypatch):
    both = synthetic.picture

    def uneven(number):
        record = both(number)
        return record if number % 3 else type(record)(**{**fields(record), "texts": record.texts[:1]})

    def fields(record):
        return {name: getattr(record, name) for name in record.__struct_fields__}

    monkeypatch.setattr(synthetic, "picture", uneven)
    synthetic.build(world)
    train("--run", "runs/a", "--set", "optim.accumulate=4", "model.dropout=0")
    train("--run", "runs/b", "--set", "model.dropout=0")
    for (_, a), (_, b) in zip(losses(Path("runs/a")), losses(Path("runs/b")), strict=True):
        assert float(a) == pytest.approx(float(b), rel=1e-4)
    a, b = (load_file(checkpoint.find(Path(f"runs/{n}"), "last") / "model.safetensors") for n in "ab")
    assert all(abs(a[name] - b[name]).max() < 2e-3 for name in a)


def test_init_takes_what_fits_and_lists_what_is_new(world, capsys):
    train("--run", "runs/a")
    train("--run", "runs/b", "--init", "runs/a", "--set", "fusion.kind=none")
    assert "0 new" in capsys.readouterr().out
    train("--run", "runs/c", "--init", "runs/b")
    said = capsys.readouterr().out
    assert "new      trunk.picture.fusion: 9\n" in said
    assert "loaded   heads.vqa.classify: 4\n" in said


def new_after_init(capsys, *arguments: str) -> list[str]:
    capsys.readouterr()
    train(*arguments)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("new ")]
    return [line.split()[1] for line in lines]


def test_init_leaves_what_means_something_else_now(world, capsys):
    train("--run", "runs/a")
    path = world / "features" / "esam" / "manifest.json"
    path.write_text(path.read_text().replace("esam-weights", "other-weights"))
    assert new_after_init(capsys, "--run", "runs/b", "--init", "runs/a") == ["trunk.picture.normalizers:"]
    path = world / "data" / "manifest.json"
    path.write_text(path.read_text().replace('"bottom"', '"below"'))
    assert new_after_init(capsys, "--run", "runs/c", "--init", "runs/b") == ["heads.vqa.classify:"]
    stored = Path("runs/c/config.json")
    stored.write_text(re.sub('"tokenizer": "[0-9a-f]+"', '"tokenizer": "00"', stored.read_text()))
    assert new_after_init(capsys, "--run", "runs/d", "--init", "runs/c") == ["trunk.text.words:"]


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
    rows = json.loads(Path("types.json").read_text())
    assert scores["questions"] == 120 == sum(row["questions"] for row in rows)
    assert {row["type"] for row in rows} == {"choose/left", "choose/top"}


def test_a_model_is_not_scored_on_pictures_that_it_was_trained_on(world, capsys):
    train("--run", "runs/a", "--allow-split", "--shards", "data", "data/toy-val-000.tar")
    assert "of split train, val" in capsys.readouterr().out
    with pytest.raises(ParamsError, match="was trained on shards of this[\\s\\S]*toy-val-000"):
        evaluate.main(["--run", "runs/a"])
    train("--run", "runs/b")
    with pytest.raises(ParamsError, match="was trained on shards of this[\\s\\S]*toy-000"):
        evaluate.main(["--run", "runs/b", "--split", "train"])


@pytest.mark.parametrize("far", [1, 2])
def test_nor_on_pictures_that_weights_were_trained_on_that_it_was_begun_with(world, far):
    train("--run", "runs/0", "--allow-split", "--shards", "data/toy-val-000.tar")
    for number in range(1, far + 1):
        train("--run", f"runs/{number}", "--init", f"runs/{number - 1}")
    with pytest.raises(
        ParamsError, match=f"runs/{far}: was begun with weights that were trained on[\\s\\S]*toy-val-000"
    ):
        evaluate.main(["--run", f"runs/{far}"])
    train("--run", "runs/sound")
    train("--run", "runs/blind", "--blind", "--init", f"runs/{far}")
    with pytest.raises(ParamsError, match="runs/blind: was begun with weights that were trained on"):
        evaluate.main(["--run", "runs/sound", "--blind", "runs/blind"])


def test_weights_of_which_a_run_does_not_say_what_they_were_trained_on_are_noted(world, capsys):
    train("--run", "runs/0")
    train("--run", "runs/1", "--init", "runs/0")
    evaluate.main(["--run", "runs/1"])
    assert "are not known" not in capsys.readouterr().err
    forget_ancestors(Path("runs/1/config.json"))
    evaluate.main(["--run", "runs/1"])
    assert "the shards of the weights that runs/1 was begun with are not known" in capsys.readouterr().err
    train("--resume", "auto", "--run", "runs/1", "--init", "runs/0")  # the same run


def forget_ancestors(config: Path) -> None:
    """As versions before wrote it."""
    stored = json.loads(config.read_text())
    del stored["ancestors"]
    config.write_text(json.dumps(stored))


def test_shards_without_an_index_are_said(world, capsys):
    Path("data/toy-000.tar.idx").unlink()
    Path("data/toy-val-000.tar.idx").unlink()
    train("--run", "runs/a")
    assert "without an index" in capsys.readouterr().err
    evaluate.main(["--run", "runs/a"])
    assert "without an index" in capsys.readouterr().err


def test_of_how_many_training_shards_the_majority_is_is_said(world, capsys):
    train("--run", "runs/a")
    evaluate.main(["--run", "runs/a", "--out", "s.json"])
    assert "majority:" not in capsys.readouterr().out
    Path("data/toy-001.tar").unlink()
    evaluate.main(["--run", "runs/a", "--out", "s.json", "--shards", "data/toy-val-000.tar"])
    assert "majority: of the 3 of this run's 4 training shards that lie in data" in capsys.readouterr().out


def test_without_training_shards_there_is_no_majority(world, capsys):
    train("--run", "runs/a")
    train("--run", "runs/blind", "--blind", "--set", "model.max_tokens=3")
    for path in Path("data").glob("toy-0*"):
        path.unlink()
    evaluate.main(
        ["--run", "runs/a", "--blind", "runs/blind", "--out", "s.json", "--shards", "data/toy-val-000.tar"]
    )
    scores = json.loads(Path("s.json").read_text())["vqa"]
    assert scores["majority"] is None and scores["blind"] is not None
    assert "no training shard lies in data" in capsys.readouterr().out


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
        (["--set", "inputs={grid: vit"], ParamsError, "is not YAML"),
        (["--set", "optim.epochs=.inf"], ParamsError, r"--set optim\.epochs: is not a finite"),
        (["--set", "optim.epochs=.nan"], ParamsError, r"--set optim\.epochs: is not a finite"),
        (["--set", "masking.kind=randon"], ParamsError, "did you mean 'random'"),
        (["--set", "development=0.001"], ParamsError, r"train\.development: leaves no picture to choose"),
        (["--set", "development=1"], ParamsError, r"train\.development: leaves no picture to train"),
        (["--run", "."], ParamsError, "is no empty folder"),
        (["--run", "features"], ParamsError, "is no empty folder"),
        (["--run", "params.yaml"], ParamsError, "is no empty folder"),
        (["--set", "inputs.grid=dino"], ShardError, "no such manifest"),
        (["--set", "tasks.vqq={}"], ParamsError, r"unknown key 'tasks\.vqq'[^$]*did you mean 'vqa'"),
        (["--resume", "runs/none"], ParamsError, "is not a run"),
        (["--resume", "runs/none", "--blind"], ParamsError, "does not go with --resume"),
        (["--params", "other.yaml"], ParamsError, "no such file"),
        (["--device", "tpu9"], ParamsError, "unknown device"),
    ],
)
def test_a_users_mistake_is_one_clear_error(world, arguments, error, message):
    files = sorted(world.rglob("*"))
    with pytest.raises(error, match=message):
        train(*arguments)
    assert sorted(world.rglob("*")) == files


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("train:", "trian:", "unknown key 'trian'[\\s\\S]*did you mean 'train'"),
        ("inputs:", "# inputs:", r"train\.inputs: no feature column is named[\s\S]*--blind"),
        ("train:", "train: [1]\nseeds:", "unknown key 'seeds'"),
    ],
)
def test_a_blind_model_is_not_trained_by_a_slip(world, before, after, message):
    path = Path("params.yaml")
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(ParamsError, match=message):
        train()
    assert not Path("runs").exists()


def test_shards_without_a_usable_text_are_said_before_the_run_is_made(world, monkeypatch):
    monkeypatch.setattr(synthetic, "QUESTIONS", {})
    synthetic.build(world)
    with pytest.raises(ShardError, match="no picture has a text"):
        train()
    assert not Path("runs").exists()


def test_the_command_says_the_error_without_a_traceback(world):
    command = [sys.executable, "-m", "training.fit", "--shards", "nowhere"]
    done = subprocess.run(command, env=HERE, capture_output=True, text=True, check=False)
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


def test_a_gradient_that_is_not_finite_changes_no_weight(world, monkeypatch):
    class Huge(torch.autograd.Function):
        @staticmethod
        def forward(_, x):
            return x.clone()

        @staticmethod
        def backward(_, gradient):
            return gradient * float("inf")

    total = step._sum
    monkeypatch.setattr(step, "_sum", lambda losses: Huge.apply(total(losses)))
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_: pytest.fail("a step was made"))
    said = r"the gradient's norm is (nan|inf)[\s\S]*pictures p0(.*p0){7}"
    with pytest.raises(TrainingError, match=said):
        train("--run", "runs/a", "--set", "optim.accumulate=2")


def test_a_run_is_not_overwritten(world):
    train("--run", "runs/a")
    before = weights(Path("runs/a"))
    with pytest.raises(FuselineError, match="is a run already"):
        train("--run", "runs/a")
    assert weights(Path("runs/a")) == before
