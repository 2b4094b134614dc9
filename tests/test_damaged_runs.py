"""A run with a file that is damaged or another run's: one error, and nothing is trained or scored by it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import synthetic
from safetensors.torch import load_file, save_file
from test_fit import stopped_run, train
from torch import Tensor

from contract.errors import MismatchError
from training import evaluate
from training.optimizing import checkpoint

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
