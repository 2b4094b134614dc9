"""The running mean of the weights: what it is, what is scored, and what a checkpoint holds of it."""

from pathlib import Path

import pytest
import synthetic
import torch
from test_fit import losses, stopped_run, train, weights
from torch import nn

from training import run
from training.optimizing import averaging, checkpoint, development


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    synthetic.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_mean_is_that_of_a_naive_loop():
    weight, unused = nn.Parameter(torch.tensor([1.0, -2.0])), nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight, unused], lr=0.1)
    expected = None
    for step in range(30):
        weight.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        decay = min(0.9, (1 + step) / (10 + step))
        now = weight.detach().double()
        expected = now if expected is None else decay * expected + (1 - decay) * now
        averaging.follow(optimizer, 0.9, step)
    trained = weight.detach().clone()
    with averaging.averaged(optimizer):
        assert torch.allclose(weight.double(), expected, atol=1e-6)
        assert not torch.allclose(weight, trained)
        assert torch.equal(unused, torch.ones(2))
    assert torch.equal(weight, trained)


def test_a_first_step_without_a_gradient_leaves_no_mean():
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    optimizer.step()
    averaging.follow(optimizer, 0.9, 0)
    assert not optimizer.state
    weight.sum().backward()
    optimizer.step()
    averaging.follow(optimizer, 0.9, 1)
    assert torch.equal(optimizer.state[weight][averaging.AVERAGE], weight)


def test_the_weights_come_back_when_scoring_fails():
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    weight.sum().backward()
    optimizer.step()
    averaging.follow(optimizer, 0.5, 0)
    optimizer.step()
    trained = weight.detach().clone()
    with pytest.raises(RuntimeError), averaging.averaged(optimizer):
        raise RuntimeError
    assert torch.equal(weight, trained)


def test_averaging_does_not_touch_training(world):
    train("--run", "runs/plain")
    train("--run", "runs/mean", "--set", "optim.ema=0.9")
    assert losses(Path("runs/mean")) == losses(Path("runs/plain"))
    assert weights(Path("runs/mean")) == weights(Path("runs/plain"))


def test_a_run_goes_on_with_its_means(world, monkeypatch):
    train("--run", "runs/whole", "--set", "optim.ema=0.9")
    stopped_run(monkeypatch, "runs/killed", 3, "optim.ema=0.9")
    train("--resume", "runs/killed")
    for name in ("model", "optimizer"):
        stored = [
            checkpoint.find(Path(f"runs/{n}"), "last") / f"{name}.safetensors" for n in ("whole", "killed")
        ]
        assert stored[0].read_bytes() == stored[1].read_bytes()


def test_what_is_scored_afterwards_is_what_chose_the_best(world, monkeypatch):
    """Development scores, evaluation, prediction and --init look at the same weights: the means."""
    shown = []
    held_out = development.held_out

    def looked_at(model, *rest):
        shown.append({name: p.detach().clone() for name, p in model.named_parameters()})
        return held_out(model, *rest)

    monkeypatch.setattr(development, "held_out", looked_at)
    train("--run", "runs/a", "--set", "optim.ema=0.9", "optim.epochs=1", "optim.learning_rate=0.01")
    opened = run.open_run(Path("runs/a"))
    scored = dict(run.trained_model(opened, "last").named_parameters())
    raw = run.trained_model(opened, "last")
    checkpoint.load_model(checkpoint.find(Path("runs/a"), "last"), raw)
    assert all(torch.equal(scored[name], value) for name, value in shown[-1].items())
    assert any(not torch.equal(scored[name], value) for name, value in raw.named_parameters())
    fresh = run.trained_model(opened, "last")
    torch.nn.init.zeros_(fresh.trunk.picture.norm.weight)
    checkpoint.init_model(checkpoint.find(Path("runs/a"), "best"), fresh, [], averaged=True)
    assert torch.equal(fresh.trunk.picture.norm.weight, scored["trunk.picture.norm.weight"])
