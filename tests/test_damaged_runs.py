"""A run with a file that is damaged or another run's: one error, and nothing is trained or scored by it."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import synthetic
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from test_fit import stopped_run, train
from torch import Tensor

from contract.errors import (
    FuselineError,
    MismatchError,
    ParamsError,
    ShardError,
    TrainingError,
    run_command,
)
from training import evaluate, probe
from training.optimizing import checkpoint
from training.reading.unlisted import read_answers
from training.starting import session

Tensors = dict[str, Tensor]


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    synthetic.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rewrite(path: Path, change: Callable[[Tensors], Tensors]) -> None:
    save_file(change(load_file(path)), path)


def ending(tensors: Tensors, part: str) -> str:
    return next(name for name in tensors if name.endswith(f".{part}"))


OTHER_STATES: dict[str, Callable[[Tensors], Tensors]] = {
    "other shape": lambda state: (
        state | {ending(state, "exp_avg"): state[ending(state, "exp_avg")].flatten()[:1].clone()}
    ),
    r"expected: also \w": lambda state: {
        name: value for name, value in state.items() if name != ending(state, "exp_avg_sq")
    },
    "unknown nobody": lambda state: state | {"nobody.exp_avg": state[ending(state, "exp_avg")].clone()},
    r"also [\s\S]*average": lambda state: {
        name: value for name, value in state.items() if name != ending(state, "average")
    },
}


@pytest.mark.parametrize("said", OTHER_STATES)
def test_a_run_does_not_go_on_with_another_optimizer_state(world, monkeypatch, said):
    stopped_run(monkeypatch, "runs/a", 3, "optim.ema=0.9")
    state = checkpoint.find(Path("runs/a"), "last") / "optimizer.safetensors"
    rewrite(state, OTHER_STATES[said])
    with pytest.raises(MismatchError, match=rf"optimizer\.safetensors: is the optimizer[\s\S]*{said}"):
        train("--resume", "runs/a")


def test_a_run_does_not_go_on_with_the_whole_state_of_another(world, monkeypatch):
    stopped_run(monkeypatch, "runs/a", 3)
    train("--run", "runs/b", "--set", "model.hidden=16", "optim.epochs=1")
    shutil.copy(*(checkpoint.find(Path(f"runs/{n}"), "last") / "optimizer.safetensors" for n in "ba"))
    with pytest.raises(MismatchError, match="is the optimizer state of another model"):
        train("--resume", "runs/a")


def test_weights_are_not_scored_in_the_place_of_lost_means(world):
    train("--run", "runs/a", "--set", "optim.ema=0.9", "optim.epochs=1")
    state = checkpoint.find(Path("runs/a"), "best") / "optimizer.safetensors"
    rewrite(state, OTHER_STATES[r"also [\s\S]*average"])
    with pytest.raises(MismatchError, match="lacks running means"):
        evaluate.main(["--run", "runs/a"])


DAMAGES: dict[str, Callable[[Path, Path], object]] = {
    r"tokenizer\.json: is no tokenizer": lambda run, _: (run / "tokenizer.json").unlink(),
    r"tokenizer\.json: is no tokenizer: [^N]": lambda run, _: (run / "tokenizer.json").write_text("{}"),
    r"model\.safetensors: cannot be read[\s\S]*--init": lambda _, last: as_folder(last / "model.safetensors"),
    r"config\.json: is not a run of": lambda run, _: (run / "config.json").write_text("nonsense"),
    r"config\.json: is not a run of .*utf-8": lambda run, _: not_utf8(run / "config.json"),
}


def not_utf8(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"{", b'{"\xff": 1, ', 1))


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("said", DAMAGES)
def test_a_damaged_run_is_not_scored(world, said):
    train("--run", "runs/a", "--set", "optim.epochs=0.3")
    DAMAGES[said](Path("runs/a"), checkpoint.find(Path("runs/a"), "last"))
    with pytest.raises(FuselineError, match=said):
        evaluate.main(["--run", "runs/a"])


def test_a_run_does_not_go_on_from_a_state_that_is_not_utf8(world, monkeypatch):
    stopped_run(monkeypatch, "runs/a", 3)
    not_utf8(checkpoint.find(Path("runs/a"), "last") / "state.json")
    with pytest.raises(FuselineError, match=r"state\.json: .*utf-8"):
        train("--resume", "runs/a")


def test_a_config_that_cannot_be_read_is_said(world, monkeypatch):
    train("--run", "runs/a", "--set", "optim.epochs=0.3")

    def refused(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(ShardError, match=r"config\.json: cannot be read: Permission denied"):
        evaluate.main(["--run", "runs/a"])


@pytest.mark.parametrize("error", [SafetensorError("No space left"), OSError(errno.ENOSPC, "No space left")])
def test_a_checkpoint_that_cannot_be_written_ends_the_run_with_one_error(world, monkeypatch, error):

    def full(*_: object) -> None:
        raise error

    with (
        monkeypatch.context() as patch,
        pytest.raises(TrainingError, match=r"No space[\s\S]*--resume 'runs/b b'"),
    ):
        patch.setattr(checkpoint, "save_file", full)
        train("--run", "runs/b b")
    assert not list(Path("runs/b b/checkpoints").iterdir()), "no part of it is left"


@pytest.mark.parametrize("option", ["--run", "--init", "--resume"])
def test_an_empty_name_is_no_folder(world, option, capsys):
    """Of a shell's variable that is not set: it would be the working folder."""
    with pytest.raises(SystemExit) as left:
        train(option, "")
    assert left.value.code == 2 and f"{option}: is empty" in capsys.readouterr().err


def test_an_empty_preset_is_none(world):
    with pytest.raises(ParamsError, match="unknown preset ''"):
        train("--preset", "")


def test_where_a_run_or_a_result_cannot_lie_is_said_before_any_work(world, monkeypatch):
    for shards_of in (session, probe):
        monkeypatch.setattr(shards_of, "prepare" if shards_of is session else "open_shards", no_work)
    with pytest.raises(ParamsError, match=r"/proc[\s\S]*cannot be written to"):
        train("--run", "/proc/run")
    with pytest.raises(ParamsError, match=r"/proc[\s\S]*cannot be written to"):
        probe.main(["--out", "/proc/probe.json"])
    with pytest.raises(ParamsError, match="is a folder"):
        probe.main(["--out", "data"])


def no_work(*_: object) -> None:
    raise AssertionError("this takes long")


def test_what_the_system_refuses_is_one_error(capsys):
    def command() -> None:
        Path("/proc/x" * 1000).read_bytes()

    with pytest.raises(SystemExit) as left:
        run_command(command)
    assert left.value.code == 2
    assert capsys.readouterr().err.endswith("File name too long\n")


def test_an_empty_file_of_answers_is_said(tmp_path):
    (tmp_path / "answers.txt").write_text("")
    with pytest.raises(ParamsError, match="holds no answer"):
        read_answers(tmp_path / "answers.txt")
