"""Benchmarks: a figure is judged by what was measured, a reader by what it delivered."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import synthetic
import torch

from benchmarks import contrast, faults, gpu, stream_sets, train_wait
from benchmarks.report import figure
from training.config import Model, Train
from training.model.model import FusionModel
from training.settings import load
from training.shards import ShardSet, open_shards

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


CPU = torch.device("cpu")
SMALL = Train(
    inputs={"grid": "vit", "pixel": "esam"},
    model=Model(hidden=16, heads=2, text_layers=1, head_layers=1),
    precision="bfloat16",
)
SIZES = gpu.Sizes(learned=4, steps=2, side=64, contrasted=48, equal=32)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShardSet]:
    folder = tmp_path_factory.mktemp("generated")
    columns = {"vit": stream_sets.Width(3, True, 8), "esam": stream_sets.Width(4, False, 6)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_sets, "SHARDS", 4)
        stream_sets.build(folder, stream_sets.Size("tiny", 40, columns))
    yield open_shards([str(folder / "data")], columns=list(columns))


def test_what_is_trained_is_held_against_a_product_and_compiled_as_a_run_is(
    generated: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []
    monkeypatch.setattr(gpu, "compile_parts", compiled.append)
    figures = {row.figure: row.value for row in gpu.trained(generated, SMALL, SIZES, CPU)}
    (model,) = compiled
    assert isinstance(model, FusionModel)
    assert len(figures) == 8 and figures["trained, one batch in memory, pictures/s"] > 0
    assert figures["bf16 product of two 64² matrices, TFLOP/s"] >= 0


def test_a_cached_contrast_is_timed_and_exact(generated: ShardSet) -> None:
    figures = gpu.contrasted(generated, SMALL, SIZES, CPU)
    assert [row.ok for row in figures if row.goal] == [True, True], figures
    assert figures[0].figure.startswith("contrast of 48 in 12 parts")


def test_parts_that_are_not_cached_differ_from_one_batch(
    generated: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the test above could not fail."""
    monkeypatch.setattr("training.optimizing.step._caches", lambda *_: {})
    loss, gradient = contrast.difference(SMALL, generated, 32, 8, CPU)
    assert loss > 0.1 and gradient > 0.1


def test_every_row_of_a_contrast_is_a_picture_of_its_own_whatever_the_parts(generated: ShardSet) -> None:
    """Also of 80 rows over 40 pictures."""
    whole, parts = contrast.parts(generated, 80, 1), contrast.parts(generated, 80, 8)
    assert whole[0].groups == [name for part in parts.values() for name in part.groups]
    assert len(set(whole[0].groups)) == len(whole[0].tokens) == 80
