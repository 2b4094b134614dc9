"""What is settled about losses and schedules: means, scales and the steps that a warm-up counts."""

import math
from pathlib import Path

import pytest
import statements
import torch
from torch.nn.functional import normalize

from training import fit
from training.config import Itc, Itm, Scale, Train
from training.heads.itc import ItcHead
from training.heads.itm import ItmHead
from training.heads.itm_pairs import sample
from training.heads.vqa import VqaHead
from training.model.model import FusionModel
from training.objectives.contrast import Contrasted, Identity, Vectors
from training.objectives.losses import focal, info_nce
from training.trunk.trunk import Shared


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_questions_are_what_is_trained_unless_another_task_is_named():
    assert list(Train().tasks.chosen) == ["vqa"]


@pytest.mark.parametrize("times", [1, 3, 16])
def test_a_loss_is_a_mean_so_more_pairs_weigh_no_more(times):
    """256 pairs of itc and 80 of itm say nothing of which of the two pulls harder."""
    logits, label = drawn(5, 2), torch.tensor([0, 1, 1, 0, 1])
    once, often = (focal(logits.repeat(n, 1), label.repeat(n), 2.0) for n in (1, times))
    torch.testing.assert_close(often, once)
    scores, target = drawn(4, 7), torch.eye(4, 7)
    once, often = (info_nce(scores.repeat(n, 1), target.repeat(n, 1)) for n in (1, times))
    torch.testing.assert_close(often, once)


def contrasted(scale: torch.Tensor) -> Contrasted:
    text, picture = (normalize(drawn(6, 4, seed=seed), dim=1) for seed in (1, 2))
    found = Vectors(text, picture, Identity(*[torch.arange(6)] * 3))
    return Contrasted(found, found, scale)


def test_the_range_of_the_logits_is_the_scale_times_the_range_of_the_cosines():
    made = ItcHead(8, cls=True, options=Itc(width=4, scale=Scale(init=20.0)))
    found = contrasted(made.scale())
    measures = {name: float(value) / count for name, (value, count) in made.contrast(found).measures.items()}
    cosines = [float(a @ b) for a in found.online.text for b in found.online.picture]
    assert measures["scale"] == pytest.approx(20)
    assert measures["logit_range"] == pytest.approx(20 * (max(cosines) - min(cosines)), rel=1e-5)


@pytest.mark.parametrize("learned", [True, False])
def test_a_scale_is_learned_or_fixed_and_begins_where_it_is_set(learned):
    made = ItcHead(8, cls=True, options=Itc(width=4, scale=Scale(init=1 / 0.07, learned=learned)))
    assert made.scale().item() == pytest.approx(math.exp(2.6592), rel=1e-4)  # CLIP's start, not its limit
    found = contrasted(made.scale())
    loss = made.contrast(found).loss
    assert loss.requires_grad == learned
    if learned:
        loss.backward()
        assert made.scale.log.grad.abs() > 0


def test_soft_logits_within_one_mean_that_nothing_has_aligned_yet():
    """At a scale of 14 a range of ±1 is one of cosines within ±0.07."""
    assert 1 / Scale().init == pytest.approx(0.07, abs=0.001)


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    statements.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("accumulate", [1, 4])
def test_what_waits_counts_optimizer_steps_however_many_parts_each_has(world, monkeypatch, accumulate):
    """Counted in forward calls, a warm-up is over at another time, or never."""
    begun, begin = [], FusionModel.begin_step

    def told(model, step):
        begun.append(step)
        begin(model, step)

    monkeypatch.setattr(FusionModel, "begin_step", told)
    tasks = "tasks={itc: {bank: {slots: 12, warmup: 2}}}"
    fit.main(["--run", "runs/a", "--set", tasks, f"optim.accumulate={accumulate}", "optim.epochs=1"])
    assert begun == list(range(len(begun))) and len(begun) == 4  # 32 pictures, 8 a step


@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize("balance", [True, False])
def test_itm_is_the_naive_loop_over_its_pairs(world, gamma, balance):
    (batch,) = statements.batches(world, 1, 8)
    torch.manual_seed(0)
    made = ItmHead(8, 2, 1, 0.0, Itm(gamma=gamma, balance=balance)).eval()
    texts, pictures = drawn(len(batch.tokens), 4, 8), drawn(len(batch.keys), 5, 8, seed=1)
    masks = [torch.ones(part.shape[:2], dtype=torch.bool) for part in (texts, pictures)]
    known = Shared(texts, masks[0], pictures, masks[1], batch.text_picture)
    pairs = sample(batch, None, Itm().sources)
    logits, true = made.logits(known, pairs.text, pairs.picture).double(), (pairs.side == 0).tolist()
    total = 0.0
    for (no, yes), right in zip(logits.tolist(), true, strict=True):
        p = 1 / (1 + math.exp(no - yes if right else yes - no))
        weight = len(true) / (2 * true.count(right)) if balance else 1.0
        total -= weight * (1 - p) ** gamma * math.log(p)
    assert made(known, batch).loss.item() == pytest.approx(total / len(true), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_vqa_is_the_naive_loop_over_questions_with_a_known_answer(world, smoothing):
    (batch,) = statements.batches(world, 1, 8)
    asked = torch.arange(len(batch.tokens))
    batch.rows["vqa"] = asked
    batch.answer = asked % 4 - 1
    torch.manual_seed(0)
    made = VqaHead(8, 2, 1, 3, 0.0, smoothing).eval()
    texts, pictures = drawn(len(asked), 4, 8), drawn(len(batch.keys), 5, 8, seed=1)
    masks = [torch.ones(part.shape[:2], dtype=torch.bool) for part in (texts, pictures)]
    known = Shared(texts, masks[0], pictures, masks[1], batch.text_picture)
    losses = []
    for row, answer in zip(made.logits(known, batch).double().tolist(), batch.answer.tolist(), strict=True):
        log_p = [value - math.log(sum(map(math.exp, row))) for value in row]
        if answer >= 0:
            losses.append(-(1 - smoothing) * log_p[answer] - smoothing * sum(log_p) / len(log_p))
    assert made(known, batch).loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)
