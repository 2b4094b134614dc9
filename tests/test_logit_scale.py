"""The inverse temperature: its limit, and the way back from it."""

from pathlib import Path

import pytest
import statements
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_fit import train

from contract.errors import ParamsError
from training import run
from training.modules.logit_scale import LogitScale


def stepped(scale: LogitScale, direction: float, rate: float) -> float:
    """The scale after a step up (1) or down (-1)."""
    optimizer = torch.optim.SGD(scale.parameters(), lr=rate)
    (-direction * scale()).backward()
    optimizer.step()
    optimizer.zero_grad()
    scale.limit()
    return scale().item()


@given(st.floats(0.1, 100), st.floats(0, 10))
def test_no_step_leaves_the_scale_above_its_limit(init, rate):
    assert stepped(LogitScale(init, 100.0, True), 1.0, rate) <= 100 * (1 + 1e-5)


def test_a_scale_at_its_limit_comes_back():
    """A clamp in the graph gives no gradient beyond the limit: the scale would stay there for ever."""
    scale = LogitScale(99.0, 100.0, True)
    assert stepped(scale, 1.0, 1.0) == pytest.approx(100.0)
    assert stepped(scale, -1.0, 1e-4) == pytest.approx(99.0, rel=1e-3)


def test_below_the_limit_nothing_is_touched():
    scale = LogitScale(14.3, 100.0, True)
    before = scale.log.detach().clone()
    scale.limit()
    assert torch.equal(scale.log, before)


def test_every_scale_of_a_run_is_limited(tmp_path, monkeypatch):
    statements.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    scale = "{init: 14.3, most: 14.4}"
    train("--run", "runs/a", "--set", f"tasks.itc={{scale: {scale}}}", "optim.learning_rate=0.05")
    model = run.trained_model(run.open_run(Path("runs/a")), "last")
    assert model.itc is not None
    assert pytest.approx(model.itc.scale().item()) != 14.3
    assert model.itc.scale().item() <= 14.4 * (1 + 1e-5)


def test_a_start_above_the_limit_is_refused(tmp_path, monkeypatch):
    statements.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError, match=r"tasks\.itc\.scale: init 20\.0 is above most 10\.0"):
        train("--run", "runs/a", "--set", "tasks.itc={scale: {init: 20.0, most: 10.0}}")
