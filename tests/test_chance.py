"""A score beside what a guess would reach: accuracy that sits at one half is said aloud."""

import json
import re
from pathlib import Path

import every_task
import pytest
import statements
import torch

from training import fit
from training.heads import itm
from training.heads.cir import recalls
from training.heads.itc import recall
from training.heads.itm_pairs import SIDES
from training.heads.region import one_of_n
from training.heads.vqa import VqaHead
from training.model.tasks import TASKS
from training.objectives.static_bank import Gallery
from training.optimizing import development
from training.optimizing.checkpoint import Sums
from training.optimizing.development import against_chance
from training.starting.command_line import parser
from training.starting.preparing import prepare

DRAWS = 2000
STILL = ["optim.epochs=1", "optim.learning_rate=1e-9", "development=0.3"]
NO_CHANCE = {"mfm/explained", *(f"itm/{side}" for side in SIDES)}  # one answer to all reaches all of a side


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
    members = table(seed + 1, 0.5)
    members[0] |= target[0]
    members[1] &= ~target[1]  # an image set need not hold the target
    found = Gallery(target, table(seed, 0.3) & ~target, members)
    generator = torch.Generator().manual_seed(seed)
    sums = dict.fromkeys(("R@1", "R_s@1"), 0.0)
    for _ in range(DRAWS):
        told = recalls(torch.rand(target.shape, generator=generator), found)
        sums = {name: total + float(told[name][0]) for name, total in sums.items()}
    for name, total in sums.items():
        expected, count = told[f"{name}_chance"]
        assert total / DRAWS == pytest.approx(float(expected), abs=5 * (count / DRAWS) ** 0.5 / 2)


@pytest.mark.parametrize("seed", range(4))
def test_the_true_text_is_found_by_chance_as_often_as_random_scores_find_it(seed):
    real = table(seed, 0.6)
    real[:, 0] = True
    generator = torch.Generator().manual_seed(seed)
    drawn = (one_of_n(torch.rand(real.shape, generator=generator), real) for _ in range(DRAWS))
    hits = sum(float(told["one_of_n"][0]) for told in drawn)
    expected, count = one_of_n(real.float(), real)["one_of_n_chance"]
    assert hits / DRAWS == pytest.approx(float(expected), abs=5 * (count / DRAWS) ** 0.5 / 2)


def test_a_guess_of_itm_varies_as_so_many_right_or_wrong_answers_do():
    side, generator = torch.arange(3).repeat_interleave(40), torch.Generator().manual_seed(0)
    guesses = (torch.rand(len(side), generator=generator) < 0.5 for _ in range(DRAWS))
    told = [itm.accuracy(right, side)["balanced"] for right in guesses]
    found = torch.stack([total / count for total, count in told]).std()
    assert float(found) == pytest.approx((0.25 / (40 * TASKS["itm"].worth["balanced"])) ** 0.5, rel=0.05)


@pytest.mark.parametrize(("task", "said"), [("itm/balanced", ", chance"), ("vqa/accuracy", ", NO BETTER")])
def test_a_mean_of_several_answers_is_surer_than_one_answer(world, monkeypatch, capsys, task, said):
    told = Sums(measures={task: (525.0, 1000), f"{task}_chance": (500.0, 1000)})
    monkeypatch.setattr(development, "held_out", lambda *_: told)
    fit.main(["--run", "runs/a", "--set", f"tasks={{{task.partition('/')[0]}: {{}}}}", *STILL])
    assert f"development {task} 0.525 (best){said}" in capsys.readouterr().err


def test_who_gives_one_answer_to_all_reaches_the_chance_of_vqa_at_most(world, monkeypatch):
    options = parser().parse_args(["--shards", "data", "--set", "development=0.4"])
    made = prepare(options)
    answers = len(made.shards.answers)
    reached = []
    for answer in range(answers):
        always = torch.nn.functional.one_hot(torch.tensor(answer), answers)
        with monkeypatch.context() as patch:
            patch.setattr(
                VqaHead, "logits", lambda _, __, b, said=always: said.expand(len(b.rows["vqa"]), -1)
            )
            scores = development.held_out(made.model, made.development, torch.device("cpu")).means()
        reached.append(scores["vqa/accuracy"])
    assert max(reached) == scores["vqa/accuracy_chance"] > min(reached)


def test_chance_does_not_hang_on_the_order_of_the_answers(world, capsys):
    answers = json.loads(Path("data/manifest.json").read_text())["answers"]
    for path in (*Path().rglob("manifest.json"), *Path().rglob("*.idx")):
        path.unlink()
    told = []
    for run, words in (("as_counted", answers), ("another_first", ["zebra", *reversed(answers)])):
        Path("answers.txt").write_text("\n".join(words))
        given = ["--shards", "data/toy-<000..003>.tar", "--tokenizer", "data/tokenizer.json"]
        fit.main([*given, "--answers", "answers.txt", "--run", f"runs/{run}", "--set", *STILL])
        told += [row.split()[-1] for row in of(run, "vqa/accuracy_chance").read_text().splitlines()[1:]]
        assert "NO BETTER THAN CHANCE" in capsys.readouterr().err
    assert len(told) == 2 and len(set(told)) == 1 and float(told[0]) > 0


def of(run: str, measure: str) -> Path:
    """Its development scores."""
    return Path("runs", run, "plots/metrics/development", f"{measure}.tsv")


def test_a_score_is_beside_its_chance_and_one_that_is_no_better_is_said_aloud():
    assert against_chance(0.9, 100, None) == ""
    assert against_chance(0.7, 100, 0.5) == ", chance 0.500"
    assert (
        against_chance(0.59, 100, 0.5) == against_chance(0.4, 100, 0.5) == ", NO BETTER THAN CHANCE (0.500)"
    )
    assert against_chance(0.59, 1000, 0.5) == ", chance 0.500"


def test_who_does_not_learn_is_told_so(world, capsys):
    for task in ("vqa", "itc", "itm"):
        fit.main(["--run", f"runs/{task}", "--set", f"tasks={{{task}: {{}}}}", *STILL])
        said = capsys.readouterr()
        assert re.search(rf"development {task}/\S+ \S+ \(best\), NO BETTER THAN CHANCE", said.out + said.err)


def test_all_that_can_choose_a_checkpoint_know_their_chance_but_a_few(tmp_path, monkeypatch):
    every_task.build(tmp_path, train=24, val=4, shards=1)
    monkeypatch.chdir(tmp_path)
    settings = [every_task.TASKS, *every_task.MASK, "optim.epochs=1", "development=0.3"]
    fit.main(["--run", "runs/a", "--set", *settings])
    measures = {f"{name}/{measure}" for name, task in TASKS.items() for measure in task.measures}
    assert all(of("a", measure).is_file() for measure in measures)
    assert {measure for measure in measures if not of("a", f"{measure}_chance").is_file()} == NO_CHANCE
