"""Compaction: hidden tokens are not computed, and nothing else changes."""

from pathlib import Path

import pytest
import statements
import synthetic
import synthetic_tasks
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from torch import Tensor

from training import fit, run
from training.batch import Batch
from training.config import Augment, Cir, Fusion, Itc, Itm, Masking, Mfm, Model, Tasks, Train, Vqa
from training.model.model import FusionModel
from training.modules.compaction import Kept
from training.shards import open_shards
from training.stream import Stream

HALF = Masking(ratio=0.5)
SETTINGS = Train(
    inputs={"grid": "vit", "pixel": "esam"},
    model=Model(hidden=16, heads=2, text_layers=1, head_layers=2, dropout=0.0),
    masking=HALF,
)


@st.composite
def masks(draw: st.DrawFn) -> Tensor:
    """[P,N] which tokens of a picture are visible; none, some or all."""
    pictures, tokens = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    rows = st.lists(st.booleans(), min_size=tokens, max_size=tokens)
    return torch.tensor([draw(rows) for _ in range(pictures)])


@given(masks(), st.booleans())
def test_visible_tokens_go_on_in_their_order_and_come_back_to_their_places(visible, cls):
    kept = Kept(visible, cls)
    tokens = torch.arange(1, visible.numel() + 1).view_as(visible)
    taken, seen = kept.take(tokens), kept.take(visible)
    assert taken.shape[1] <= max(1, int(visible.sum(1).max()) + cls)
    for before, mask, after, there in zip(tokens, visible, taken, seen, strict=True):
        assert after[there].tolist() == before[mask].tolist()
    assert torch.equal(kept.put_back(taken) * visible, tokens * visible)


@given(masks())
def test_a_cls_stays_first_also_where_it_is_hidden(visible):
    tokens = torch.arange(visible.numel()).view_as(visible)
    assert torch.equal(Kept(visible, cls=True).take(tokens)[:, 0], tokens[:, 0])


def test_codes_of_the_places_go_with_the_tokens():
    kept = Kept(torch.tensor([[False, True, True], [True, False, False]]), cls=False)
    codes = torch.randn(3, 4)
    assert torch.equal(kept.codes(codes), kept.take(codes.expand(2, 3, 4)))


def world(folder: Path, task: str) -> Path:
    """Shards with what a task takes."""
    changes = {"cir": synthetic_tasks.with_edits}
    if task in ("itc", "itm"):
        statements.build(folder)
    else:
        synthetic.build(folder, change=changes.get(task, lambda _number, record: record))
    return folder


def model(folder: Path, settings: Train) -> FusionModel:
    shards = open_shards([str(folder / "data")], columns=["vit", "esam"])
    torch.manual_seed(0)
    return run.build_model(settings, shards.features, shards.tokenizer, len(shards.answers))


def batch(folder: Path, settings: Train) -> Batch:
    shards = open_shards([str(folder / "data")], columns=["vit", "esam"])
    made = next(iter(Stream(shards, list(settings.tasks.chosen), batch=8, mask=settings.masking, epochs=1)))
    made.visible["vit"][0], made.visible["esam"][0] = False, False  # a picture of which nothing is seen
    return made


def learned(made: FusionModel, of: Batch) -> tuple[float, dict[str, Tensor]]:
    """The loss of a step, and the gradients that it gives."""
    made.train()
    loss = torch.stack([outcome.loss for outcome in made(of).values()]).sum()
    loss.backward()
    return loss.item(), {name: p.grad for name, p in made.named_parameters() if p.grad is not None}


CASES = [
    (Tasks(vqa=Vqa()), Fusion("gated")),
    (Tasks(vqa=Vqa()), Fusion("none")),
    (Tasks(vqa=Vqa()), Fusion("cross_attention")),
    (Tasks(vqa=Vqa()), Fusion("difnet")),
    (Tasks(itc=Itc(momentum=0.9)), Fusion("gated")),
    (Tasks(itc=Itc(), itm=Itm()), Fusion("gated")),
    (Tasks(cir=Cir()), Fusion("gated")),
    (Tasks(cir=Cir(gated=True)), Fusion("cross_attention")),
]


@pytest.mark.parametrize(("tasks", "fusion"), CASES)
def test_loss_and_gradients_are_those_of_the_masked_model(tmp_path, tasks, fusion):
    folder = world(tmp_path, next(iter(tasks.chosen)))
    settings = replace(SETTINGS, tasks=tasks, fusion=fusion)
    compact, masked = model(folder, settings), model(folder, settings)
    assert compact.trunk.picture.compact
    for trunk in [masked.trunk, *([masked.momentum_encoder.trunk] if masked.momentum_encoder else [])]:
        trunk.picture.compact = False
    of = batch(folder, settings)
    (loss, gradients), (expected, wanted) = learned(compact, of), learned(masked, of)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert gradients.keys() == wanted.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-3, atol=2e-6, msg=name)


@pytest.mark.parametrize("kind", ["gated", "cross_attention"])
def test_a_text_is_fused_with_the_tokens_that_are_seen(tmp_path, kind):
    folder = world(tmp_path, "vqa")
    settings = replace(SETTINGS, inputs={"grid": "vit", "words": "text"}, fusion=Fusion(kind))
    compact, masked = model(folder, settings), model(folder, settings)
    masked.trunk.picture.compact = False
    of = batch(folder, settings)
    assert learned(compact, of)[0] == pytest.approx(learned(masked, of)[0], rel=1e-5)


def test_fewer_tokens_reach_the_heads(tmp_path):
    folder = world(tmp_path, "vqa")
    made, of = model(folder, SETTINGS), batch(folder, SETTINGS)
    shared = made.trunk(of)
    assert shared.picture.shape[1] == int(of.visible["vit"].sum(1).max()) < of.visible["vit"].shape[1]


def test_a_trained_model_gives_every_token_on_its_place(tmp_path, monkeypatch):
    """By which a map over the picture, such as Grad-CAM's, is read."""
    monkeypatch.chdir(world(tmp_path, "vqa"))
    fit.main(["--run", "runs/a", "--set", "masking.ratio=0.5", "optim.epochs=0.2"])
    of = batch(tmp_path, SETTINGS)
    seen = run.trained_model(run.open_run(Path("runs/a")), "last").eval().trunk(of).visible
    assert torch.equal(seen, of.visible["vit"])


@pytest.mark.parametrize(
    ("change", "compact"),
    [
        ({"masking": Masking()}, False),
        ({"masking": Masking(), "augment": Augment(token_dropout=0.5)}, True),
        ({"masking": Masking(ratio=0.0, ratio_end=0.5)}, True),
        ({"masking": Masking(ratio=0.5, fill="learned")}, False),
        (
            {
                "tasks": Tasks(mfm=Mfm()),
                "masking": Masking(ratio=0.5, fill="zero"),
                "augment": Augment(token_dropout=0.5),
            },
            False,
        ),
    ],
)
def test_tokens_keep_their_places_where_none_is_hidden_or_a_task_asks_by_place(tmp_path, change, compact):
    folder = world(tmp_path, "vqa")
    assert model(folder, replace(SETTINGS, **change)).trunk.picture.compact == compact
