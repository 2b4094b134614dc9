"""The training loop, top to bottom."""

import math
import time
from pathlib import Path

import torch
from msgspec import Struct
from torch import nn

from contract.errors import TrainingError
from contract.seeds import seed64
from training import checkpoint, device, optim
from training.batch import Batch
from training.checkpoint import State
from training.config import Train
from training.log import Log
from training.model import FusionModel
from training.stream import Stream
from training.tasks import task


class Meter(Struct):
    """Sums since the last line of the log."""

    loss: float = 0.0
    correct: float = 0.0
    items: int = 0
    steps: int = 0
    waited: float = 0.0
    started: float = 0.0


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
    parts = iter(stream)
    with Log(run, steps, state.step) as log:
        meter = Meter(started=time.perf_counter(), waited=stream.waited)
        while state.step < steps:
            rate = optim.learning_rate(state.step, steps, settings.optim.learning_rate, settings.optim.warmup)
            optim.set_learning_rate(optimizer, rate)
            for part in range(settings.optim.accumulate):
                batch = next(parts)
                torch.manual_seed(seed64(seed, "dropout", state.step, part))
                _accumulate(model, batch.to(where), settings, where, meter)
            norm = nn.utils.clip_grad_norm_(model.parameters(), settings.optim.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            state = State(state.step + 1, batch.position, state.best)
            meter.steps += 1

            if state.step % settings.log_every == 0 or state.step == steps:
                log.step(state.step, _values(meter, rate, float(norm), stream))
                meter = Meter(started=time.perf_counter(), waited=stream.waited)
            end_of_epoch = state.step % epoch_steps == 0 or state.step == steps
            if end_of_epoch or state.step % settings.checkpoint_every == 0:
                state = _checkpoint(
                    model, optimizer, development if end_of_epoch else None, state, run, where, log
                )
        if stream.truncated:
            log.say(f"{stream.truncated:,} texts were cut at {stream.max_tokens} tokens")
    return state


def planned_steps(rows: int, settings: Train) -> tuple[int, int]:
    """(optimizer steps of the whole run, of one epoch)."""
    batch = settings.optim.batch
    return max(1, round(settings.optim.epochs * rows / batch)), max(1, round(rows / batch))


def _accumulate(model: FusionModel, batch: Batch, settings: Train, where: torch.device, meter: Meter) -> None:
    """Forward and backward of one part of a step."""
    model.train()
    total = torch.zeros((), device=where)
    with device.autocast(where, settings.precision):
        for name, weight in ((name, row.weight) for name, row in settings.tasks.items()):
            outcome = task(name)(model, batch)
            total = total + weight * outcome.loss
            meter.items += outcome.items
            meter.correct += float(outcome.correct)
    loss = float(total.detach())
    if not math.isfinite(loss):
        raise TrainingError(
            "training",
            f"the loss is {loss} at position {batch.position}",
            found=f"pictures {', '.join(batch.keys)}",
            fix="look at them with `python -m data_pipeline show`; lower train.optim.learning_rate",
        )
    (total / settings.optim.accumulate).backward()
    meter.loss += loss / settings.optim.accumulate


def _values(meter: Meter, rate: float, norm: float, stream: Stream) -> dict[str, float]:
    seconds = time.perf_counter() - meter.started
    return {
        "train/loss": meter.loss / meter.steps,
        "train/accuracy": meter.correct / max(1, meter.items),
        "train/learning_rate": rate,
        "train/gradient_norm": norm,
        "speed/texts_per_second": meter.items / seconds,
        "speed/waiting": (stream.waited - meter.waited) / seconds,
    }


def _checkpoint(
    model: FusionModel,
    optimizer: torch.optim.Optimizer,
    development: Stream | None,
    state: State,
    run: Path,
    where: torch.device,
    log: Log,
) -> State:
    best = False
    if development is not None:
        accuracy = development_accuracy(model, development, where)
        best = accuracy > state.best
        state = State(state.step, state.position, max(accuracy, state.best))
        log.step(state.step, {"development/accuracy": accuracy})
        log.say(f"step {state.step}: development accuracy {accuracy:.3f}{' (best)' if best else ''}")
    checkpoint.save(run, model, optimizer, state, best)
    return state


@torch.inference_mode()
def development_accuracy(model: FusionModel, stream: Stream, where: torch.device) -> float:
    """Accuracy over the held-out part of the training pictures."""
    model.eval()
    stream.position = 0
    correct = items = 0
    for batch in stream:
        logits = model.answer_logits(batch.to(where))
        correct += int((logits.argmax(-1).cpu() == batch.answer).sum())
        items += len(batch.answer)
    return correct / max(1, items)
