"""A contrast over many pictures at the memory of a few: steps of gradient caching, and how exact they are.

The generated questions stand for captions, and every row for a picture of its own.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice

import torch
from msgspec import structs

from training import run
from training.batch import Batch
from training.config import Itc, Tasks, Train
from training.distributed import ALONE
from training.model.model import FusionModel
from training.optimizing import step
from training.optimizing.checkpoint import Sums
from training.optimizing.step import StepContext
from training.optimizing.tally import tally
from training.shards import ShardSet
from training.stream import Stream

UNCLIPPED = 1e9  # a norm that no gradient reaches


def settings(base: Train, pictures: int, parts: int) -> Train:
    """Contrast alone, in steps of so many pictures."""
    optim = structs.replace(base.optim, batch=pictures, accumulate=parts, clip=UNCLIPPED)
    return structs.replace(base, tasks=Tasks(itc=Itc()), optim=optim)


def parts(shards: ShardSet, pictures: int, count: int) -> dict[int, Batch]:
    """The parts of a step, a text of each picture."""
    stream = Stream(shards, ["vqa"], batch=pictures // count, texts_per_image=1, threads=8)
    found = dict(enumerate(map(_contrasted, islice(stream, count))))
    stream.close()
    return found


def _contrasted(batch: Batch) -> Batch:
    """All texts against all pictures; a picture of a later epoch is another one."""
    first = batch.position - len(batch.keys)
    groups = [str(first + row) for row in range(len(batch.keys))]
    return replace(batch, groups=groups, rows={"itc": torch.arange(len(batch.tokens))})


def made(known: Train, shards: ShardSet, where: torch.device) -> FusionModel:
    """A model with fresh weights."""
    torch.manual_seed(0)
    built = run.build_model(known, shards.features, shards.tokenizer, len(shards.answers))
    return built.to(where)


def take(model: FusionModel, known: Train, given: Mapping[int, Batch], where: torch.device) -> float:
    """The loss of a step, whose gradients are left on the model."""
    context, sums = StepContext(0, 1, 0, False, tally(given, known, False, ALONE)), Sums()
    step.backward(model, given, known, context, where, sums)
    return sums.loss


def difference(
    base: Train, shards: ShardSet, pictures: int, count: int, where: torch.device
) -> tuple[float, float]:
    """Of loss and gradient between cached parts and one plain batch, as shares of the plain ones.

    In float32 and without dropout, so that nothing but rounding may differ.
    """
    exact = structs.replace(base, precision="float32", model=structs.replace(base.model, dropout=0.0))
    losses, gradients = [], []
    for of in (1, count):
        known = settings(exact, pictures, of)
        model = made(known, shards, where)
        losses.append(take(model, known, parts(shards, pictures, of), where))
        gradients.append(_gradient(model))
    plain, cached = gradients
    return abs(losses[1] / losses[0] - 1), float((cached - plain).norm() / plain.norm())


def _gradient(model: FusionModel) -> torch.Tensor:
    """All of it, as one vector."""
    return torch.cat([known.grad.flatten() for known in model.parameters() if known.grad is not None])
