"""The task itc: what is contrasted, gradient-cached steps, soft targets, and runs that stop and go on."""

import math
from pathlib import Path

import pytest
import statements
import torch
from safetensors.numpy import load_file
from test_fit import losses, stopped_run, train, weights
from torch import nn

from contract.errors import ParamsError
from training import run
from training.batching.wording import word_ids
from training.config import Itc, Itm, Model, Optim, Tasks, Train, Vqa
from training.heads.itc import ItcHead
from training.model import gradient_cache
from training.model.gathering import Size
from training.modules.pooling import VisionAggregator, masked_mean
from training.objectives.contrast import (
    Contrasted,
    Identity,
    Vectors,
    identify,
    join,
    positives,
    unjudged,
)
from training.objectives.losses import equal_mass, info_nce
from training.optimizing import checkpoint
from training.optimizing.step import weight_at
from training.shards import open_shards

TINY = Model(hidden=16, heads=2, text_layers=1, head_layers=1, dropout=0.1)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    statements.build(folder)
    return folder


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    statements.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def model(folder: Path, tasks: Tasks):
    opened = open_shards([str(folder / "data")], columns=["vit", "esam"])
    settings = Train(tasks=tasks, inputs={"grid": "vit", "pixel": "esam"}, model=TINY, optim=Optim())
    torch.manual_seed(0)
    return run.build_model(settings, opened.features, opened.tokenizer, len(opened.answers))


def test_the_aggregator_takes_cls_and_the_visible_mean():
    made, tokens = VisionAggregator(4, 3, cls=True), torch.randn(2, 6, 4)
    visible = torch.tensor([[True] * 6, [False, True, True, False, False, False]])
    mean = masked_mean(tokens[:, 1:], visible[:, 1:])
    first = torch.stack([tokens[0, 0], mean[1]])
    assert torch.equal(made(tokens, visible), made.project(torch.cat([first, mean], dim=1)))
    assert made(tokens, torch.zeros(2, 6, dtype=torch.bool)).isfinite().all()
    changed = tokens.clone()
    changed[~visible] = 9
    assert torch.equal(made(changed, visible), made(tokens, visible))


def test_copies_and_texts_of_the_same_words_are_not_judged():
    of = Identity(torch.tensor([0, 1, 2]), torch.tensor([7, 8, 7, 9]), torch.tensor([1, 2, 2]))
    assert positives(of).nonzero().tolist() == [[0, 0], [1, 1], [2, 2]]
    judged = ~unjudged(of)
    assert judged.int().tolist() == [[0, 1, 0, 1], [1, 0, 0, 1], [0, 0, 0, 1]]


def test_ids_of_words_do_not_depend_on_padding_and_do_on_order():
    tokens, mask = torch.tensor([[3, 4, 0], [4, 3, 0], [3, 4, 0]]), torch.tensor([[1, 1, 0]] * 3).bool()
    mask[2, 2] = True
    ids = word_ids(tokens, mask)
    assert torch.equal(ids[:2], word_ids(tokens[:2, :2], mask[:2, :2]))
    assert len(set(ids.tolist())) == 3


def test_mined_pictures_are_further_columns(shards):
    (plain,), (mined,) = statements.batches(shards, 1, 6), statements.batches(shards, 1, 6, negatives=2)
    made = model(shards, Tasks(itc=Itc())).eval()
    of = made.contrasted(mined).online
    assert len(of.picture) > len(plain.keys) and len(of.text) == len(plain.rows["itc"])
    score = made.itc.scale() * of.text @ of.picture.T
    true = positives(of.identity)
    ignored = unjudged(of.identity) & ~true
    sides = ((score, true, ignored), (score.T, true.T, ignored.T))
    expected = sum(info_nce(scores, equal_mass(own), left_out) for scores, own, left_out in sides) / 2
    assert made(mined)["itc"].loss.item() == pytest.approx(expected.item(), rel=1e-6)


def sizes(parts: list[Contrasted]) -> list[Size]:
    return [Size(len(part.online.text), len(part.online.picture)) for part in parts]


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "alpha": 0.4, "alpha_ramp": 1}])
def test_cached_gradients_equal_those_of_one_large_batch(shards, options):
    parts = [statements.unlike(part) for part in statements.batches(shards, 3, 8)]
    made = model(shards, Tasks(itc=Itc(**options))).train()
    made.itc.step = 1

    def found(part: int) -> Contrasted:
        torch.manual_seed(part)
        return made.contrasted(parts[part])

    one = [found(part) for part in range(3)]
    whole = Contrasted(join([part.online for part in one]), join([part.keys for part in one]), one[0].scale)
    plain = made.itc.contrast(whole).loss
    plain.backward()
    expected = {
        name: parameter.grad.clone()
        for name, parameter in made.named_parameters()
        if parameter.grad is not None
    }
    made.zero_grad(set_to_none=True)

    with torch.no_grad():
        first = [found(part) for part in range(3)]
    total = 0.0
    for number, cached in gradient_cache.cache(made.itc, dict(enumerate(first)), sizes(first)).items():
        torch.manual_seed(number)
        loss = made(parts[number], cached)["itc"].loss
        total += loss.item()
        loss.backward()
    assert total == pytest.approx(plain.item(), rel=1e-5)
    got = {name: parameter.grad for name, parameter in made.named_parameters() if parameter.grad is not None}
    assert got.keys() == expected.keys() and "heads.itc.scale.log" in got
    for name in got:
        torch.testing.assert_close(got[name], expected[name], rtol=1e-4, atol=1e-6)


def test_more_parts_enlarge_the_contrast(shards):
    parts = [statements.unlike(part) for part in statements.batches(shards, 3, 8)]
    made = model(shards, Tasks(itc=Itc())).eval()
    found = [made.contrasted(part) for part in parts]
    apart = sum(made.itc.contrast(part).loss.item() for part in found) / 3
    cached = gradient_cache.cache(made.itc, dict(enumerate(found)), sizes(found))
    assert sum(part.told.loss.item() for part in cached.values()) > apart + 0.5


def test_alpha_0_is_plain_and_a_teacher_changes_the_target():
    def loss(alpha: float, step: int) -> float:
        head = ItcHead(8, True, Itc(width=4, alpha=alpha, alpha_ramp=10)).train()
        head.step = step
        generator = torch.Generator().manual_seed(1)
        vectors = [
            Vectors(
                *(torch.randn(3, 4, generator=generator) for _ in range(2)),
                Identity(torch.arange(3), torch.arange(3), torch.arange(3)),
            )
            for _ in range(2)
        ]
        return head.contrast(Contrasted(*vectors, torch.tensor(1.0))).loss.item()

    assert loss(0.4, 0) == loss(0.0, 0) == loss(0.0, 9) != loss(0.4, 5)


def test_a_teacher_that_is_sure_leaves_the_own_picture_among_what_is_compared():
    """At α = 1 none of the target need lie on it."""
    head = ItcHead(2, True, Itc(width=2, alpha=1.0, alpha_ramp=1)).train()
    head.step = 1
    of, own = Identity(*[torch.arange(2)] * 3), torch.eye(2)
    crossed = Vectors(100 * own.flip(0), own, of)  # each text with the other's picture
    found = head.contrast(Contrasted(Vectors(own, own, of), crossed, torch.tensor(3.0))).loss
    there, back = math.log(1 + math.exp(3)), 0.0
    assert found.item() == pytest.approx((there + back) / 2)


@pytest.mark.parametrize("momentum", [1.0, 0.9, 0.0])
def test_the_momentum_encoder_follows_and_m_1_freezes_it(shards, momentum):
    made = model(shards, Tasks(itc=Itc(momentum=momentum))).train()
    fast = dict(nn.ModuleDict({"trunk": made.trunk, "head": made.itc}).named_parameters())
    slow = dict(made.momentum_encoder.named_parameters())
    assert slow.keys() == fast.keys()
    for step in range(2):
        before = {name: parameter.clone() for name, parameter in slow.items()}
        with torch.no_grad():
            for parameter in fast.values():
                parameter += 1 + step
        made.begin_step(step)
        kept = momentum if step else 0  # before the first step it is the trained one
        for name in slow:
            torch.testing.assert_close(slow[name], kept * before[name] + (1 - kept) * fast[name])


def test_no_gradient_into_the_momentum_encoder(shards):
    made = model(shards, Tasks(itc=Itc(momentum=0.9))).train()
    (batch,) = statements.batches(shards, 1, 8)
    made(batch)["itc"].loss.backward()
    assert all(parameter.grad is None for parameter in made.momentum_encoder.parameters())
    assert not made.momentum_encoder.training


@pytest.mark.parametrize("size", [1, 2])
def test_a_batch_of_one_picture_or_of_one_group_has_no_nan(shards, size):
    (batch,) = statements.batches(shards, 1, size)
    batch.groups = ["same"] * size
    made = model(shards, Tasks(itc=Itc(), itm=Itm())).train()
    outcomes = made(batch)
    sum(outcome.loss for outcome in outcomes.values()).backward()
    assert outcomes["itc"].loss == 0
    assert all(p.grad.isfinite().all() for p in made.parameters() if p.grad is not None)


def test_the_identity_of_a_batch_is_the_same_in_the_next(shards):
    first, again = statements.batches(shards, 1, 40)[0], statements.batches(shards, 2, 20)
    rows = [identify(part, part.rows["itc"]) for part in again]
    assert set(identify(first, first.rows["itc"]).group.tolist()) == {
        group for part in rows for group in part.group.tolist()
    }


BANKED = "tasks={itc: {bank: {slots: 12, warmup: 2}, momentum: 0.9, alpha: 0.4, alpha_ramp: 4}}"


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_with_a_bank_goes_on_bit_for_bit(world, monkeypatch, accumulate):
    settings = [BANKED, "optim.epochs=3", f"optim.accumulate={accumulate}"]
    train("--run", "runs/whole", "--set", *settings)
    stopped_run(monkeypatch, "runs/killed", 6, *settings)
    train("--resume", "runs/killed")
    assert losses(Path("runs/killed")) == losses(Path("runs/whole"))
    assert weights(Path("runs/killed")) == weights(Path("runs/whole"))
    stored = load_file(checkpoint.find(Path("runs/whole"), "last") / "model.safetensors")
    assert stored["heads.itc.bank.pictures.written"] > 12


def test_init_begins_with_an_empty_bank(world, capsys):
    train("--run", "runs/a", "--set", BANKED)
    capsys.readouterr()
    train("--run", "runs/b", "--init", "runs/a", "--set", BANKED)
    new = [line for line in capsys.readouterr().out.splitlines() if line.startswith("new ")]
    assert {line.split()[1].split(".")[0] for line in new} == {"heads", "momentum_encoder"}
    assert [line.split()[1] for line in new if "heads" in line] == ["heads.itc.bank:"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("tasks={itc: {bank: {slots: 1000}}}", "larger than the set"),
        ("tasks={itc: {bank: {slots: 8, warmup: 1000}}}", "never be used"),
        ("tasks={itc: {alpha: 0.4}}", "momentum encoder's share"),
        ("tasks={itc: {alpha: 0.4, momentum: 0.9, loss: sigmoid}}", "sigmoid judges each pair by itself"),
        ("tasks={itc: {bias: -5}}", "is what sigmoid adds"),
        ("tasks={itm: {sources: {similar: 1}}}", "this run has no itc"),
        ("tasks={itm: {sources: {mined: 1}}}", "needs mined pictures"),
        ("tasks={itm: {sources: {random: 0}}}", "name none"),
    ],
)
def test_what_could_not_work_is_refused_before_the_run_is_made(world, setting, message):
    with pytest.raises(ParamsError, match=message):
        train("--run", "runs/a", "--set", setting)
    assert not Path("runs/a").exists()


def test_the_pull_of_each_task_on_the_trunk_is_logged(world):
    train("--run", "runs/a", "--set", "tasks={vqa: {}, itc: {}, itm: {}}", "optim.epochs=1", "log_every=2")
    for task in ("vqa", "itc", "itm"):
        path = Path(f"runs/a/plots/metrics/train/{task}/trunk_gradient.tsv")
        rows = [line.split("\t") for line in path.read_text().splitlines()[1:]]
        assert len(rows) == 2 and all(0 < float(value) < math.inf for _, value in rows)


def test_a_weight_rises_and_stays():
    rising = [weight_at(Vqa(weight=2.0, rise=0.5), step, 8) for step in range(8)]
    assert rising == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0]
    assert weight_at(Vqa(weight=2.0), 0, 8) == 2.0


def test_a_weight_falls_to_where_it_is_to_end():
    assert [weight_at(Vqa(weight=2.0, weight_end=0.0), step, 5) for step in range(5)] == [2, 1.5, 1, 0.5, 0]
