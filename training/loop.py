"""The training loop, top to bottom."""

import math
import time
from itertools import islice
from pathlib import Path

import torch
from msgspec import Struct
from torch import Tensor, nn

from contract.errors import TrainingError
from contract.seeds import seed64
from training import checkpoint, device, optim
from training.batch import Batch
from training.checkpoint import State, Sums
from training.config import Train
from training.log import Log
from training.model import FusionModel
from training.outcome import Outcome
from training.stream import Stream
from training.tasks import TASKS


class Clock(Struct):
    """Where the last line of the log, or this process, began. texts: of the sums at that time."""

    started: float
    waited: float
    texts: int


def train(
    model: FusionModel,
    stream: Stream,
    development: Stream | None,
    settings: Train,
    seed: int,
    run: Path,
    state: State,
    where: torch.device,
) -> State:
    """Train from `state` to the last planned step; leaves checkpoints and metrics in `run`.

    The stream gives parts of batch / accumulate pictures; steps count optimizer steps everywhere.
    """
    optimizer = optim.build(model, settings.optim)
    if state.step:
        checkpoint.load_optimizer(checkpoint.find(run, "last"), model, optimizer)
    steps, epoch_steps = planned_steps(len(stream), settings)
    batches = iter(stream)
    with Log(run, steps, state.step) as log:
        clock = _clock(stream, state.sums)
        while state.step < steps:
            rate = optim.learning_rate(state.step, steps, settings.optim.learning_rate, settings.optim.warmup)
            optim.set_learning_rate(optimizer, rate)
            parts = list(islice(batches, settings.optim.accumulate))
            norm = _backward(model, parts, settings, seed, where, state)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            state = State(state.step + 1, parts[-1].position, state.best, state.sums)

            if state.step % settings.log_every == 0 or state.step == steps:
                metrics = _metrics(state.sums, rate, norm)
                log.step(state.step, metrics, _speed(state.sums, clock, stream))
                state.sums = Sums()
                clock = _clock(stream, state.sums)
            end_of_epoch = state.step % epoch_steps == 0 or state.step == steps
            if end_of_epoch or state.step % settings.checkpoint_every == 0:
                held = development if end_of_epoch else None
                state = _checkpoint(model, optimizer, held, settings, state, run, where, log)
        if stream.truncated:
            log.say(f"{stream.truncated:,} texts were cut at {stream.max_tokens} tokens")
    return state


def planned_steps(rows: int, settings: Train) -> tuple[int, int]:
    """(optimizer steps of the whole run, of one epoch)."""
    batch = settings.optim.batch
    return max(1, round(settings.optim.epochs * rows / batch)), max(1, round(rows / batch))


def _backward(
    model: FusionModel, parts: list[Batch], settings: Train, seed: int, where: torch.device, state: State
) -> float:
    """Gradients of the mean loss over all texts of a step, part by part; their norm before clipping."""
    model.train()
    totals = {name: sum(TASKS[name].texts(part) for part in parts) for name in settings.tasks.chosen}
    for number, part in enumerate(parts):
        torch.manual_seed(seed64(seed, "dropout", state.step, number))
        shares = {name: TASKS[name].texts(part) / max(1, total) for name, total in totals.items()}
        loss = _loss(model, part.to(where), settings, shares, where, state.sums)
        state.sums.loss += _finite("loss", loss.detach(), [part])
        state.sums.texts += len(part.text_id)
        loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), settings.optim.clip)
    state.sums.steps += 1
    return _finite("gradient's norm", norm, parts)


def _loss(
    model: FusionModel,
    batch: Batch,
    settings: Train,
    shares: dict[str, float],
    where: torch.device,
    sums: Sums,
) -> Tensor:
    """A part's share of its step's loss. shares: of the step's texts of each task."""
    total = torch.zeros((), device=where)
    with device.autocast(where, settings.precision):
        for name, outcome in model(batch).items():
            total = total + settings.tasks.chosen[name].weight * shares[name] * outcome.loss
            _count(sums, name, outcome)
    return total


def _count(sums: Sums, task: str, outcome: Outcome) -> None:
    for measure, (value, count) in outcome.measures.items():
        sums.add(f"{task}/{measure}", float(value), count)


def _finite(what: str, value: Tensor, batches: list[Batch]) -> float:
    """The scalar as a number, or the error that names the pictures it came of."""
    number = float(value)
    if math.isfinite(number):
        return number
    raise TrainingError(
        "training",
        f"the {what} is {number} at position {batches[-1].position}",
        found=f"pictures {', '.join(key for batch in batches for key in batch.keys)}",
        fix="look at them with `python -m data_pipeline show`; lower train.optim.learning_rate",
    )


def _clock(stream: Stream, sums: Sums) -> Clock:
    return Clock(time.perf_counter(), stream.waited, sums.texts)


def _metrics(sums: Sums, rate: float, norm: float) -> dict[str, float]:
    return {
        "train/loss": sums.loss / sums.steps,
        **{f"train/{name}": value for name, value in sums.means().items()},
        "train/learning_rate": rate,
        "train/gradient_norm": norm,
    }


def _speed(sums: Sums, clock: Clock, stream: Stream) -> dict[str, float]:
    """Of the time since the clock was set. waiting: share of it that the step stood still for data."""
    seconds = time.perf_counter() - clock.started
    return {
        "speed/texts_per_second": (sums.texts - clock.texts) / seconds,
        "speed/waiting": (stream.waited - clock.waited) / seconds,
    }


def _checkpoint(
    model: FusionModel,
    optimizer: torch.optim.Optimizer,
    development: Stream | None,
    settings: Train,
    state: State,
    run: Path,
    where: torch.device,
    log: Log,
) -> State:
    best = False
    if development is not None:
        scores, name = held_out(model, development, where), goal(settings)
        best = state.best is None or scores[name] > state.best
        state = State(state.step, state.position, scores[name] if best else state.best, state.sums)
        log.record(state.step, {f"development/{key}": value for key, value in scores.items()})
        log.say(f"step {state.step}: development {name} {scores[name]:.3f}{' (best)' if best else ''}")
    checkpoint.save(run, model, optimizer, state, best)
    return state


def goal(settings: Train) -> str:
    """The measure that chooses the best checkpoint: `train.best`, else that of the first task."""
    first = next(iter(settings.tasks.chosen))
    return settings.best or f"{first}/{TASKS[first].goal}"


@torch.inference_mode()
def held_out(model: FusionModel, stream: Stream, where: torch.device) -> dict[str, float]:
    """Every measure over the held-out part of the training pictures."""
    model.eval()
    stream.position = 0
    sums = Sums()
    for batch in stream:
        for name, outcome in model(batch.to(where)).items():
            _count(sums, name, outcome)
    return sums.means()
