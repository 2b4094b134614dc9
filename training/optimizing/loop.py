"""The training loop, top to bottom."""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import torch
from msgspec import Struct, structs

from contract.errors import unknown_name
from training.batching.steps import by_step
from training.config import Train
from training.distributed import ALONE, World
from training.model.model import FusionModel
from training.model.tasks import TASKS
from training.optimizing import averaging, checkpoint, optim, step
from training.optimizing.account import Account, agree, gather
from training.optimizing.checkpoint import State, Sums
from training.optimizing.learning_rate import learning_rate
from training.optimizing.log import Log
from training.optimizing.step import Norms, Plan
from training.optimizing.tally import tally
from training.optimizing.termination import Termination
from training.reading.meter import shares
from training.stream import Stream


class Clock(Struct):
    """When the last line of the log was written, or this process began, and how the account stood then."""

    started: float
    texts: int
    account: Account


def train(
    model: FusionModel,
    stream: Stream,
    development: Stream | None,
    settings: Train,
    seed: int,
    run: Path,
    state: State,
    where: torch.device,
    world: World = ALONE,
) -> State:
    """Train from `state` to the last planned step, or until no score grows; leaves checkpoints and metrics.

    The stream gives parts of batch / accumulate pictures, which the processes of `world` share; steps count
    optimizer steps everywhere. The first process writes. SIGTERM to any of them ends all after one step more,
    with a checkpoint.
    """
    optimizer = optim.build(model, settings.optim)
    if state.step:
        checkpoint.load_optimizer(checkpoint.find(run, "last"), model, optimizer)
    steps, epoch_steps = planned_steps(len(stream), settings)
    parts_of_steps = by_step(
        stream.on(where), state.position, settings.optim.batch, settings.optim.accumulate, world.size
    )
    if not world.first:
        state.sums = Sums()  # those of the checkpoint are the first one's to go on with
    with (
        Log(run, steps, state.step) if world.first else nullcontext() as log,
        Termination(world) as termination,
    ):
        account = gather(state.sums, stream, world)
        clock = Clock(time.perf_counter(), state.sums.texts, account)
        while state.step < steps and not given_up(state, settings):
            rate = learning_rate(state.step, steps, settings.optim)
            optim.set_learning_rate(optimizer, rate)
            parts = next(parts_of_steps)
            count = tally(parts, settings, termination.asked, world)
            due = (state.step + 1) % settings.log_every == 0 or state.step + 1 == steps
            plan = Plan(state.step, steps, seed, due, count)
            norms = step.backward(model, parts, settings, plan, where, state.sums, world)
            _move(model, optimizer, settings, state.step)
            position = state.position + settings.optim.batch
            state = structs.replace(state, step=state.step + 1, position=position)

            end_of_epoch = state.step % epoch_steps == 0 or state.step == steps
            kept = end_of_epoch or state.step % settings.checkpoint_every == 0 or count.asked
            if due or kept:
                account = gather(state.sums, stream, world)
                state.sums = account.sums if world.first and not due else Sums()
                state.skipped = sorted(account.skipped)
            if due:
                _write_line(log, state.step, account, clock, rate, norms)
                clock = Clock(time.perf_counter(), 0, account)
            if kept and log is not None:
                held = development if end_of_epoch else None
                state = _checkpoint(model, optimizer, held, settings, state, run, where, log)
            if kept:
                state = agree(state, world)
            if count.asked:
                break
        if log is not None and account.truncated:
            log.say(f"{account.truncated:,} texts were cut at {stream.max_tokens} tokens")
    return state


def planned_steps(rows: int, settings: Train) -> tuple[int, int]:
    """(optimizer steps of the whole run, of one epoch)."""
    batch = settings.optim.batch
    return max(1, round(settings.optim.epochs * rows / batch)), max(1, round(rows / batch))


def _move(model: FusionModel, optimizer: torch.optim.Optimizer, settings: Train, step: int) -> None:
    """The weights by their gradients, and their running mean after them."""
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    model.end_step()
    if settings.optim.ema:
        averaging.follow(optimizer, settings.optim.ema, step)


def _write_line(
    log: Log | None, step: int, account: Account, clock: Clock, rate: float, norms: Norms
) -> None:
    if log is None:
        return
    _tell_skipped(log, clock.account.skipped, account.skipped)
    log.step(step, _metrics(account, rate, norms), _speed(account, clock))


def _tell_skipped(log: Log, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    for place, why in now.items():
        if place not in before:
            log.say(f"skipped: {why}")


def _metrics(account: Account, rate: float, norms: Norms) -> dict[str, float]:
    sums = account.sums
    skipped = {"train/skipped": float(len(account.skipped))} if account.skipped else {}
    return {
        "train/loss": sums.loss / sums.steps,
        **{f"train/{name}": value for name, value in sums.means().items()},
        "train/learning_rate": rate,
        "train/gradient_norm": norms.whole,
        **{f"train/{task}/trunk_gradient": norm for task, norm in norms.by_task.items()},
        **skipped,
    }


def _speed(account: Account, clock: Clock) -> dict[str, float]:
    """Of the time since the clock was set. waiting: share of it that the step stood still for data, in the
    process that did so longest: the others wait for it. spent: shares of the readers' own time, by cause.
    """
    seconds, before = time.perf_counter() - clock.started, clock.account
    waits = [now - then for now, then in zip(account.waited, before.waited, strict=True)]
    return {
        "speed/texts_per_second": (account.sums.texts - clock.texts) / seconds,
        "speed/waiting": max(waits) / seconds,
        **{f"spent/{cause}": share for cause, share in shares(before.spent, account.spent).items()},
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
        known = development.left_out()
        with averaging.averaged(optimizer):
            scores = held_out(model, development, where)
        _tell_skipped(log, known, development.left_out())
        score = _score(scores, settings)
        best = state.best is None or score > state.best
        state = structs.replace(
            state, best=score if best else state.best, stale=0 if best else state.stale + 1
        )
        log.record(state.step, {f"development/{key}": value for key, value in scores.items()})
        log.say(f"step {state.step}: development {goal(settings)} {score:.3f}{' (best)' if best else ''}")
        if given_up(state, settings):
            log.say(f"no better {goal(settings)} in {state.stale} epochs: training ends")
    checkpoint.save(run, model, optimizer, state, best)
    return state


def goal(settings: Train) -> str:
    """The measure that chooses the best checkpoint: `train.best`, else that of the first task."""
    first = next(iter(settings.tasks.chosen))
    return settings.best or f"{first}/{TASKS[first].goal}"


def _score(scores: Mapping[str, float], settings: Train) -> float:
    """What the best checkpoint is chosen by."""
    if goal(settings) not in scores:
        raise unknown_name("train.best", "measure", goal(settings), scores)
    return scores[goal(settings)]


def given_up(state: State, settings: Train) -> bool:
    """Whether `train.patience` is at its end."""
    return settings.patience is not None and state.stale >= settings.patience


@torch.inference_mode()
def held_out(model: FusionModel, stream: Stream, where: torch.device) -> dict[str, float]:
    """Every measure over the held-out part of the training pictures."""
    model.eval()
    stream.position = 0
    sums = Sums()
    for batch in stream.on(where):
        step.count(sums, model(batch))
    return sums.means()
