"""Training that ends when the development score has stopped growing."""

from pathlib import Path

import pytest
import synthetic
from test_fit import losses, stopped_run, train, weights

from contract.errors import ParamsError
from training import fit
from training.optimizing import checkpoint, development, loop
from training.optimizing.checkpoint import Sums
from training.starting import preparing

SETTINGS = ["--set", "optim.epochs=9", "patience=2"]


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    synthetic.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def scores(monkeypatch):
    """Development scores by epoch, in the place of the real ones."""
    given = [0.1, 0.3, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5, 0.5]

    def scored(model, *_):
        return Sums(measures={"vqa/accuracy": (given[_epoch(model)], 1)})

    monkeypatch.setattr(development, "held_out", scored)
    monkeypatch.setattr(preparing, "FEW", 0)
    monkeypatch.setattr(loop.step, "backward", _counting(loop.step.backward))
    return given


STEPS = []  # of the process at hand


def _counting(backward):
    def counted(model, parts, settings, context, *rest):
        STEPS.append(context.step)
        return backward(model, parts, settings, context, *rest)

    return counted


def _epoch(_model) -> int:
    return (STEPS[-1] + 1) // 4 - 1  # four steps an epoch


def test_it_ends_after_so_many_epochs_without_a_better_score(world, scores, capsys):
    assert fit.main(["--run", "runs/a", *SETTINGS]) == 0
    assert len(losses(Path("runs/a"))) == 4 * 4  # the second epoch was the best, the fourth no better
    said = capsys.readouterr()
    assert "no better vqa/accuracy in 2 epochs" in said.err
    assert "done: 16 steps" in said.out
    assert checkpoint.load_state(checkpoint.find(Path("runs/a"), "best")).step == 8


def test_a_killed_run_ends_where_the_whole_one_ends(world, scores, monkeypatch):
    train("--run", "runs/whole", *SETTINGS)
    for stop in (12, 16):
        run = Path(f"runs/killed-{stop}")
        stopped_run(monkeypatch, str(run), stop, *SETTINGS[1:])
        train("--resume", str(run))
        assert losses(run) == losses(Path("runs/whole"))
        assert weights(run) == weights(Path("runs/whole"))


def test_without_patience_it_goes_on(world, scores):
    train("--run", "runs/a", "--set", "optim.epochs=6")
    assert len(losses(Path("runs/a"))) > 4 * 6


def test_patience_without_held_out_pictures_is_refused(world):
    with pytest.raises(ParamsError, match=r"train\.patience: waits for a better"):
        train("--run", "runs/a", "--set", "patience=2", "development=0")


def test_an_unknown_measure_is_said_before_the_run_is_made(world):
    with pytest.raises(ParamsError, match=r"train\.best: unknown measure 'vqa/acuracy'[\s\S]*did you mean"):
        train("--run", "runs/a", "--set", "best=vqa/acuracy")
    assert not Path("runs").exists()
