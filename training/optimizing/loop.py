"""The training loop, top to bottom."""

import time
from itertools import islice
from pathlib import Path

import torch
from msgspec import Struct

from training.config import Train
from training.model.model import FusionModel
from training.model.tasks import TASKS
from training.optimizing import checkpoint, optim, step
from training.optimizing.checkpoint import State, Sums
from training.optimizing.log import Log
from training.optimizing.step import Norms, Plan
from training.optimizing.termination import Termination
from training.reading.meter import shares
from training.stream import Stream


class Clock(Struct):
    """Where the last line of the log, or this process, began. texts, spent: at that time."""

    started: float
    waited: float
    texts: int
    spent: dict[str, float]


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

    The stream gives parts of batch / accumulate pictures; steps count optimizer steps everywhere. SIGTERM
    ends it after the step at hand, with a checkpoint.
    """
    optimizer = optim.build(model, settings.optim)
    if state.step:
        checkpoint.load_optimizer(checkpoint.find(run, "last"), model, optimizer)
    steps, epoch_steps = planned_steps(len(stream), settings)
    batches = iter(stream)
    with Log(run, steps, state.step) as log, Termination() as termination:
        clock = _clock(stream, state.sums)
        while state.step < steps:
            rate = optim.learning_rate(state.step, steps, settings.optim.learning_rate, settings.optim.warmup)
            optim.set_learning_rate(optimizer, rate)
            parts = list(islice(batches, settings.optim.accumulate))
            due = (state.step + 1) % settings.log_every == 0 or state.step + 1 == steps
            norms = step.backward(
                model, parts, settings, Plan(state.step, steps, seed, due), where, state.sums
            )
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            state = State(state.step + 1, parts[-1].position, state.best, state.sums)

            if due:
                metrics = _metrics(state.sums, rate, norms) | _skipped(stream, log)
                log.step(state.step, metrics, _speed(state.sums, clock, stream))
                state.sums = Sums()
                clock = _clock(stream, state.sums)
            end_of_epoch = state.step % epoch_steps == 0 or state.step == steps
            asked_to_end = termination.asked
            if end_of_epoch or state.step % settings.checkpoint_every == 0 or asked_to_end:
                held = development if end_of_epoch else None
                state = _checkpoint(model, optimizer, held, settings, state, run, where, log)
            if asked_to_end:
                break
        if stream.truncated:
            log.say(f"{stream.truncated:,} texts were cut at {stream.max_tokens} tokens")
    return state


def planned_steps(rows: int, settings: Train) -> tuple[int, int]:
    """(optimizer steps of the whole run, of one epoch)."""
    batch = settings.optim.batch
    return max(1, round(settings.optim.epochs * rows / batch)), max(1, round(rows / batch))


def _clock(stream: Stream, sums: Sums) -> Clock:
    return Clock(time.perf_counter(), stream.waited, sums.texts, dict(stream.meter.seconds))


def _metrics(sums: Sums, rate: float, norms: Norms) -> dict[str, float]:
    return {
        "train/loss": sums.loss / sums.steps,
        **{f"train/{name}": value for name, value in sums.means().items()},
        "train/learning_rate": rate,
        "train/gradient_norm": norms.whole,
        **{f"train/{task}/trunk_gradient": norm for task, norm in norms.by_task.items()},
    }


def _skipped(stream: Stream, log: Log) -> dict[str, float]:
    """How many pictures this process left out, if any; those that the log has not named are named."""
    for error in stream.faults.news():
        log.say(f"skipped: {error}")
    return {"train/skipped": float(len(stream.faults.found))} if stream.faults.found else {}


def _speed(sums: Sums, clock: Clock, stream: Stream) -> dict[str, float]:
    """Of the time since the clock was set. waiting: share of it that the step stood still for data; spent:
    shares of the readers' own time, by cause.
    """
    seconds = time.perf_counter() - clock.started
    return {
        "speed/texts_per_second": (sums.texts - clock.texts) / seconds,
        "speed/waiting": (stream.waited - clock.waited) / seconds,
        **{f"spent/{cause}": share for cause, share in shares(clock.spent, stream.meter.seconds).items()},
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
        step.count(sums, model(batch.to(where)))
    return sums.means()
