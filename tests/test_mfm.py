"""Masked feature modelling: the loss is that of hidden tokens alone, and what is hidden can be learned."""

from itertools import islice

import numpy as np
import pytest
import synthetic
import torch
from torch.nn import functional

from contract.errors import ParamsError
from contract.seeds import rng
from training import fit
from training.heads.mfm import MfmHead, hidden_error
from training.modules import filling
from training.optimizing import development as scoring
from training.shards import open_shards
from training.stream import Stream
from training.trunk.picture import Column
from training.trunk.trunk import Shared

DIM = 5


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Pictures whose tokens all show the picture's own vector, so that one token tells the others."""

    def features(number: int, name: str) -> np.ndarray:
        width = synthetic.WIDTHS[name]
        own = rng("toy", number).normal(0, 1, width)
        noise = rng("toy", name, number).normal(0, 0.05, (synthetic.GRID**2 + synthetic.CLS[name], width))
        return own + noise

    monkeypatch.setattr(synthetic, "features", features)
    synthetic.build(tmp_path, train=120)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def development(world, measure: str) -> float:
    path = world / f"runs/a/plots/metrics/development/{measure}.tsv"
    return float(path.read_text().splitlines()[-1].split("\t")[-1])


def test_the_loss_is_the_mean_error_of_hidden_tokens():
    guessed, features = torch.randn(2, 4, DIM), torch.randn(2, 4, DIM)
    hidden = torch.tensor([[True, False, True, False], [False, False, False, True]])
    wanted = []
    for picture, token in hidden.nonzero().tolist():
        one = features[picture, token].double()
        normal = (one - one.mean()) / (one.var(unbiased=False) + 1e-5).sqrt()
        wanted.append(((guessed[picture, token] - normal) ** 2).mean())
    assert hidden_error(guessed, features, hidden).item() == pytest.approx(sum(wanted).item(), rel=1e-5)


def test_visible_tokens_have_no_part_in_the_loss():
    guessed, features = torch.randn(1, 4, DIM, requires_grad=True), torch.randn(1, 4, DIM)
    hidden_error(guessed, features, torch.tensor([[True, False, False, False]])).backward()
    assert (guessed.grad[0, 1:] == 0).all() and (guessed.grad[0, 0] != 0).any()


def test_the_head_asks_for_what_the_batch_has_hidden(world):
    (batch,) = islice(Stream(open_shards(["data"], ["vit"]), ["mfm"], batch=4), 1)
    places = batch.visible["vit"].shape
    hidden = torch.rand(places, generator=torch.Generator().manual_seed(0)) < 0.3
    batch.hidden["vit"], batch.visible["vit"] = hidden, ~hidden
    column = Column("vit", synthetic.GRID, synthetic.CLS["vit"], synthetic.WIDTHS["vit"])
    head, told = MfmHead(16, 2, 0, 0.0, column), torch.randn(*places, 16)
    no_text, no_mask, no_rows = torch.zeros(0, 1, 16), torch.ones(0, 1) > 0, torch.zeros(0)
    shared = Shared(no_text, no_mask, told, ~hidden, no_rows)
    guessed = head.decode(head.norm(told))
    outcome = head(shared, batch)
    error = hidden_error(guessed, batch.tokens_of("vit").float(), hidden).item()
    assert outcome.loss.item() == pytest.approx(error / int(hidden.sum()))
    explained, count = outcome.measures["explained"]
    assert count == int(hidden.sum()) and explained.item() == pytest.approx(count - error)


def test_nothing_hidden_is_a_loss_of_zero():
    assert hidden_error(torch.randn(1, 4, DIM), torch.randn(1, 4, DIM), torch.zeros(1, 4) > 0) == 0


def test_guessing_the_mean_explains_nothing():
    features = torch.randn(3, 50, 64)
    error = hidden_error(torch.zeros_like(features), features, torch.ones(3, 50, dtype=torch.bool))
    assert error.item() / 150 == pytest.approx(1, abs=1e-3)
    normal = functional.layer_norm(features, (64,))
    assert hidden_error(normal, features, torch.ones(3, 50, dtype=torch.bool)) == 0


def test_a_run_alone_learns_to_fill_in_what_is_hidden(world):
    fit.main(
        [
            "--run",
            "runs/a",
            "--set",
            "tasks={mfm: {}}",
            "masking={ratio: 0.5, fill: learned}",
            "optim.epochs=8",
        ]
    )
    assert development(world, "mfm/explained") > 0.3


def test_it_goes_beside_another_task(world):
    settings = ["tasks={vqa: {}, mfm: {weight: 0.5}}", "masking={ratio: 0.25, fill: mean}", "optim.epochs=1"]
    fit.main(["--run", "runs/a", "--set", *settings])
    assert development(world, "vqa/accuracy") >= 0
    assert development(world, "mfm/explained") < 1


def test_pictures_without_a_text_are_taken(world, monkeypatch):
    monkeypatch.setattr(synthetic, "QUESTIONS", {})
    synthetic.build(world, train=16)
    fit.main(
        ["--run", "runs/a", "--set", "tasks={mfm: {}}", "masking={ratio: 0.5, fill: zero}", "optim.epochs=1"]
    )
    assert development(world, "mfm/explained") < 1


def test_the_development_score_hangs_on_no_number_that_was_drawn_before(world, monkeypatch):
    settings = ["tasks={mfm: {}}", "masking={ratio: 0.5, fill: noise}", "optim={epochs: 1, batch: 32}"]
    score, found = scoring.score, []
    for drawn in (0, 7):

        def after_others(*arguments, count=drawn):
            torch.rand(count)
            return score(*arguments)

        monkeypatch.setattr(scoring, "score", after_others)
        fit.main(["--run", f"runs/{drawn}", "--set", *settings])
        path = world / f"runs/{drawn}/plots/metrics/development/mfm/explained.tsv"
        found.append([line.split("\t")[1:] for line in path.read_text().splitlines()])
    assert found[0] == found[1]


@pytest.mark.parametrize("fill", [kind for kind in filling.KINDS if kind != filling.DROP])
def test_a_mask_of_everything_is_legal(world, fill):
    settings = ["tasks={mfm: {}}", f"masking={{ratio: 1.0, fill: {fill}}}", "optim={epochs: 1, batch: 32}"]
    fit.main(["--run", "runs/a", "--set", *settings])
    assert development(world, "mfm/explained") < 0.5


@pytest.mark.parametrize(
    ("masking", "message"),
    [
        ("{ratio: 0.0, fill: zero}", "it hides nothing"),
        ("{ratio: 0.5, ratio_end: 0.0, fill: zero}", "it hides nothing"),
        ("{ratio: 0.5, fill: drop}", "leaves nothing there"),
    ],
)
def test_a_mask_that_hides_nothing_or_leaves_nothing_is_refused(world, masking, message):
    with pytest.raises(ParamsError, match=message):
        fit.main(["--run", "runs/a", "--set", "tasks={mfm: {}}", f"masking={masking}"])
    assert not (world / "runs").exists()


def test_init_with_another_first_column_has_its_features_to_learn(world, capsys):
    """As wide as the one before, and yet each number means something else."""
    settings = ["--set", "tasks={mfm: {}}", "masking={ratio: 0.5, fill: zero}", "optim.epochs=1"]
    fit.main(["--run", "runs/a", *settings])
    normalizers, decode = "trunk.picture.normalizers:", "heads.mfm.decode:"
    for column, anew in (("esam", [normalizers]), ("vit", [decode, normalizers])):
        path = world / "features" / column / "manifest.json"
        path.write_text(path.read_text().replace(f"{column}-weights", "other-weights"))
        capsys.readouterr()
        fit.main(["--run", f"runs/{column}", "--init", "runs/a", *settings])
        new = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("new ")]
        assert new == anew
