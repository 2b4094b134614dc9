"""The inverse temperature: its limit, and the way back from it."""

from pathlib import Path

import every_task
import pytest
import statements
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_fit import train

from contract.errors import ParamsError
from training import run
from training.config import Cir, Itc, Model, Region, Scale, Tasks, Train
from training.modules.logit_scale import LogitScale
from training.shards import open_shards


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


def begun(scale: Scale) -> list[float]:
    """The four scales of a run of all contrasts that begins with the weights of `runs/a`."""
    tasks = Tasks(itc=Itc(scale=scale), region=Region(scale=scale), cir=Cir(scale=scale))
    small = Model(hidden=16, heads=2, text_layers=1, head_layers=1)
    settings = Train(tasks=tasks, inputs={"grid": "vit"}, model=small)
    shards = open_shards(["data"], settings.columns)
    model = run.build_model(settings, shards.features, shards.tokenizer, len(shards.answers))
    run.init_model(Path("runs/a"), model, settings, shards)
    return [module().item() for module in model.modules() if isinstance(module, LogitScale)]


def test_init_keeps_to_a_scale_that_is_fixed_and_to_the_limit_of_one_that_is_learned(tmp_path, monkeypatch):
    every_task.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    scales = ", ".join(f"{task}: {{scale: {{init: 50}}}}" for task in ("itc", "region", "cir"))
    train("--run", "runs/a", "--set", f"tasks={{{scales}}}", "optim.epochs=1")
    assert begun(Scale(init=10, learned=False)) == pytest.approx([10] * 4)
    assert begun(Scale(init=5, most=8)) == pytest.approx([8] * 4)
    assert begun(Scale(init=5)) == pytest.approx([50] * 4, rel=0.1)
