"""The gradients of one optimizer step, part by part."""

import math
from collections.abc import Collection, Iterable, Mapping

import torch
from msgspec import Struct
from torch import Tensor, nn

from contract.errors import TrainingError
from contract.seeds import seed64
from training.batch import Batch
from training.config import Train, Weighted
from training.distributed import ALONE, World
from training.model import gradient_cache
from training.model.gradient_cache import Cached
from training.model.model import FusionModel
from training.objectives.outcome import Outcome
from training.optimizing import device
from training.optimizing.checkpoint import Sums
from training.optimizing.gradient_sum import add_gradients
from training.optimizing.tally import Tally
from training.optimizing.task_gradients import TaskGradients
from training.schedule import value_at


class StepContext(Struct, frozen=True):
    """Where a step stands. logged: its line of the log is due. tally: what all processes take in it."""

    step: int
    steps: int
    seed: int
    logged: bool
    tally: Tally


class Norms(Struct):
    """Of the gradient before clipping; by_task: of each task's on the trunk, where there are several."""

    whole: float
    by_task: dict[str, float] = {}


def backward(
    model: FusionModel,
    parts: Mapping[int, Batch],
    settings: Train,
    context: StepContext,
    where: torch.device,
    sums: Sums,
    world: World = ALONE,
) -> Norms:
    """Gradients of the weighted losses, each the mean over all of a step, added up over all processes.

    parts: this process's, by their number in the step. Their loss and measures go into `sums`.
    """
    model.train()
    model.begin_step(context.step)
    tasks = settings.tasks.chosen
    weights = {name: weight_at(options, context.step, context.steps) for name, options in tasks.items()}
    caches = _caches(model, parts, settings, context, where, world)
    by_task = TaskGradients(model.trunk) if context.logged and len(tasks) > 1 else None
    for number, part in parts.items():
        cached = caches.get(number)
        _seed(context, number)
        shares = {name: context.tally.shares(name, number) for name in tasks}
        if cached is not None:
            shares["itc"] = [1.0]  # its parts are shares of one loss already
        with device.autocast(where, settings.precision):
            outcomes = model(part.to(where), cached)
        losses = {
            name: weights[name]
            * _sum([share * loss for share, loss in zip(shares[name], outcome.losses, strict=True)])
            for name, outcome in outcomes.items()
        }
        loss = _sum(losses.values())
        if by_task is not None:
            by_task.add(losses)
        loss.backward()
        sums.loss += finite("loss", float(loss.detach()), [part])
        sums.texts += len(part.text_id)
        count(sums, outcomes)
    model.end_parts(list(parts), settings.optim.accumulate, world)
    if world.size > 1:
        own = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        finite("gradient's norm", float(nn.utils.get_total_norm(own)), parts.values())
        add_gradients(model, world)
    norm = float(nn.utils.clip_grad_norm_(model.parameters(), settings.optim.clip))
    sums.steps += 1
    return Norms(
        finite("gradient's norm", norm, parts.values()), by_task.norms(list(tasks), world) if by_task else {}
    )


def _sum(losses: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(losses)).sum()


def weight_at(options: Weighted, step: int, steps: int) -> float:
    """A task's weight: as it is set for that part of the run, and on the line to there while it rises."""
    weight = value_at(options.weight, options.weight_end, step / max(1, steps - 1))
    rising = options.rise * steps
    return weight * min(1.0, (step + 1) / rising) if rising else weight


def count(sums: Sums, outcomes: Mapping[str, Outcome]) -> None:
    """Every measure of every task, copied off the device at once: each copy waits for what it works on."""
    measures = [
        (f"{task}/{measure}", total, number)
        for task, outcome in outcomes.items()
        for measure, (total, number) in outcome.measures.items()
    ]
    totals = torch.stack([total.detach().float() for _, total, _ in measures]).tolist() if measures else []
    for (name, _, number), total in zip(measures, totals, strict=True):
        sums.add(name, total, number)


def finite(what: str, number: float, batches: Collection[Batch]) -> float:
    """The number, or the error that names the pictures it came of; those of other processes they name."""
    if math.isfinite(number):
        return number
    at = f" at position {max(batch.position for batch in batches)}" if batches else ""
    raise TrainingError(
        "training",
        f"the {what} is {number}{at}",
        found=f"pictures {', '.join(key for batch in batches for key in batch.keys) or 'of another process'}",
        fix="look at them with `python -m data_pipeline show`; lower train.optim.learning_rate",
    )


def _caches(
    model: FusionModel,
    parts: Mapping[int, Batch],
    settings: Train,
    context: StepContext,
    where: torch.device,
    world: World,
) -> Mapping[int, Cached]:
    """What each part carries of the contrast over all; nothing where there is one part, or no contrast."""
    if model.itc is None or settings.optim.accumulate == 1:
        return {}
    found = {}
    for number, part in parts.items():
        _seed(context, number)
        with torch.no_grad(), device.autocast(where, settings.precision):
            found[number] = model.contrasted(part.to(where))
    return gradient_cache.cache(model.itc, found, context.tally.contrasted, world)


def _seed(context: StepContext, part: int) -> None:
    """A part draws the same dropout whenever it is run in a step."""
    torch.manual_seed(seed64(context.seed, "dropout", context.step, part))
