"""What a step leaves of several tasks: their weighted gradient, and how hard each pulls at the trunk."""

import math
from collections.abc import Iterable

import pytest
import statements
import torch
from torch import Tensor

from training.batch import Batch
from training.config import Itm, Model, Optim, Tasks, Train, Vqa
from training.distributed import ALONE
from training.model.model import FusionModel
from training.optimizing.checkpoint import Sums
from training.optimizing.step import StepContext, backward
from training.optimizing.tally import tally
from training.run import build_model
from training.shards import open_shards
from training.stream import Stream

WEIGHTS = {"vqa": 2.0, "itm": 0.3}
SETTINGS = Train(
    tasks=Tasks(vqa=Vqa(weight=WEIGHTS["vqa"]), itm=Itm(weight=WEIGHTS["itm"])),
    inputs={"grid": "vit", "pixel": "esam"},
    model=Model(hidden=16, heads=2, text_layers=1, head_layers=1, dropout=0.0),
    optim=Optim(batch=9, accumulate=2, clip=1e9),
    precision="float32",
)


@pytest.fixture
def shards(tmp_path):
    statements.build(tmp_path)
    return open_shards([str(tmp_path / "data")], ["vit", "esam"])


def parts_of(shards) -> dict[int, Batch]:
    """Two of unequal numbers of texts, so that neither is half of the step."""
    return {
        number: next(iter(Stream(shards, list(WEIGHTS), batch=size, position=12 * number)))
        for number, size in enumerate((6, 3))
    }


def alone(model: FusionModel, task: str, parts: dict[int, Batch]) -> dict[str, Tensor]:
    """The gradient of the mean of one task over the texts of both parts, times its weight."""
    texts = [len(part.rows[task]) for part in parts.values()]
    losses = [model(part)[task].loss for part in parts.values()]
    model.zero_grad()
    (WEIGHTS[task] * sum(n * loss for n, loss in zip(texts, losses, strict=True)) / sum(texts)).backward()
    return gradients(model)


def gradients(model: FusionModel) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def norm(tensors: Iterable[Tensor]) -> float:
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))


def test_a_step_sums_the_weighted_gradients_and_tells_the_norm_of_each_on_the_trunk(shards):
    torch.manual_seed(0)
    model = build_model(SETTINGS, shards.features, shards.tokenizer, len(shards.answers))
    parts = parts_of(shards)
    by_task = {task: alone(model, task, parts) for task in WEIGHTS}
    model.zero_grad()
    context = StepContext(step=3, steps=10, seed=0, logged=True, tally=tally(parts, SETTINGS, False, ALONE))
    told = backward(model, parts, SETTINGS, context, torch.device("cpu"), Sums())
    for name, found in gradients(model).items():
        expected = sum(of[name] for of in by_task.values() if name in of)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert told.whole == pytest.approx(norm(gradients(model).values()), rel=1e-5)
    for task, of in by_task.items():
        pull = norm(found for name, found in of.items() if name.startswith("trunk."))
        assert told.by_task[task] == pytest.approx(pull, rel=1e-4)
