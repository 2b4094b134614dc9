"""Benchmarks: a figure is judged by what was measured, a reader by what it delivered."""

from pathlib import Path

import pytest
import synthetic

from benchmarks import faults, train_wait
from benchmarks.report import figure
from training.settings import load
from training.shards import open_shards

UNCHECKED = "1 shard of data/ without an index: payload bits are not checked"


@pytest.mark.parametrize(
    ("value", "goal", "ok"),
    [(0.804, "> 0.8", True), (0.796, "> 0.8", False), (11.996, "< 12", True), (12.004, "< 12", False)],
)
def test_a_figure_is_held_against_its_goal_as_it_was_measured(value: float, goal: str, ok: bool) -> None:
    found = figure("share", value, goal)
    assert found.ok == ok and found.value == round(value, 2)


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("", "not noticed"),
        (UNCHECKED, "said that payload bits are not checked"),
        (faults.lost(16, 64), "silently lost 16 of 64"),
        (f"{faults.lost(16, 64)}; {UNCHECKED}", "silently lost 16 of 64"),
        ("gqa-000.tar: is cut", "noticed"),
    ],
)
def test_lost_samples_are_no_notice(said: str, word: str) -> None:
    assert faults._noticed(said) == word


@pytest.mark.parametrize("kind", [train_wait.Watched, train_wait.Held])
def test_waiting_is_measured_with_the_settings_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[train_wait.Watched]
) -> None:
    synthetic.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train_wait, "WARM_UP", 1)
    set_here = ["development=0", "optim.accumulate=2", "optim.texts_per_image=1", "shuffle=window"]
    settings, seed = load(Path("params.yaml"), set_here)
    shards = open_shards(["data"], settings.columns)
    settings = train_wait.short(settings, shards, seed, steps=4)
    made = []
    monkeypatch.setattr(kind, "speed", lambda watched, warm_up: made.append((watched, warm_up)) or (1.0, 0.0))
    train_wait.speed(kind, shards, settings, seed)
    ((watched, warm_up),) = made
    assert [texts for _, texts, _ in watched.notes] == [4] * 8 and warm_up == 2
