"""A score beside what a guess would reach: accuracy that sits at one half is said aloud."""

import re
from pathlib import Path

import every_task
import pytest
import statements
import torch

from training import fit
from training.heads.cir import Gallery, recalls
from training.heads.itc import recall
from training.model.tasks import TASKS
from training.optimizing.development import against_chance

DRAWS = 2000


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    statements.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(seed: int, density: float, rows: int = 3, columns: int = 6) -> torch.Tensor:
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)) < density


@pytest.mark.parametrize("seed", range(4))
def test_itc_reaches_its_chance_by_random_scores(seed):
    positive, ignored = table(seed, 0.3), table(seed + 1, 0.3)
    generator = torch.Generator().manual_seed(seed)
    hits = 0.0
    for _ in range(DRAWS):
        told = recall("R@1", torch.rand(positive.shape, generator=generator), positive, ignored)
        hits += float(told["R@1"][0])
    guessed, count = told["R@1_chance"]
    assert hits / DRAWS == pytest.approx(float(guessed), abs=5 * (count / DRAWS) ** 0.5 / 2)


@pytest.mark.parametrize("seed", range(4))
def test_cir_reaches_its_chances_by_random_scores(seed):
    target = torch.eye(6, dtype=torch.bool)[:3]
    found = Gallery(target, table(seed, 0.3) & ~target, table(seed + 1, 0.5) | target)
    generator = torch.Generator().manual_seed(seed)
    sums = dict.fromkeys(("R@1", "R_s@1"), 0.0)
    for _ in range(DRAWS):
        told = recalls(torch.rand(target.shape, generator=generator), found)
        sums = {name: total + float(told[name][0]) for name, total in sums.items()}
    for name, total in sums.items():
        expected, count = told[f"{name}_chance"]
        assert total / DRAWS == pytest.approx(float(expected), abs=5 * (count / DRAWS) ** 0.5 / 2)


def test_a_score_is_beside_its_chance_and_one_that_is_no_better_is_said_aloud():
    assert against_chance(0.9, 100, None) == ""
    assert against_chance(0.7, 100, 0.5) == ", chance 0.500"
    assert (
        against_chance(0.59, 100, 0.5) == against_chance(0.4, 100, 0.5) == ", NO BETTER THAN CHANCE (0.500)"
    )
    assert against_chance(0.59, 1000, 0.5) == ", chance 0.500"


def test_who_does_not_learn_is_told_so(world, capsys):
    still = ["optim.epochs=1", "optim.learning_rate=1e-9", "development=0.3"]
    for task in ("vqa", "itc", "itm"):
        fit.main(["--run", f"runs/{task}", "--set", f"tasks={{{task}: {{}}}}", *still])
        said = capsys.readouterr()
        assert re.search(rf"development {task}/\S+ \S+ \(best\), NO BETTER THAN CHANCE", said.out + said.err)


def test_every_task_but_a_regression_knows_the_chance_of_its_first_measure(tmp_path, monkeypatch):
    every_task.build(tmp_path, train=24, val=4, shards=1)
    monkeypatch.chdir(tmp_path)
    fill = "masking={ratio: 0.25, fill: learned}"
    for name, task in TASKS.items():
        run = Path("runs", name)
        settings = [f"tasks={{{name}: {{}}}}", fill, "optim.epochs=1", "development=0.3"]
        fit.main(["--run", str(run), "--set", *settings])
        told = (run / "plots/metrics/development" / name / f"{task.measures[0]}_chance.tsv").is_file()
        assert told == (name != "mfm")
