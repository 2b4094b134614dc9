"""The training loop, top to bottom."""

import torch
from msgspec import structs

from training.batching.steps import by_step
from training.config import Train
from training.model.model import FusionModel
from training.optimizing import averaging, checkpoint, development, freed_memory, optim, step, unasked
from training.optimizing.account import agree
from training.optimizing.checkpoint import State, Sums
from training.optimizing.job import Job
from training.optimizing.learning_rate import learning_rate
from training.optimizing.ledger import Ledger
from training.optimizing.step import StepContext
from training.optimizing.tally import tally
from training.optimizing.termination import Termination
from training.stream import Stream


def train(job: Job, model: FusionModel, stream: Stream, held: Stream | None, state: State) -> State:
    """Train from `state` to the last planned step, or until no score grows; leaves checkpoints and metrics.

    The stream gives parts of batch / accumulate pictures, which the processes of the job share; steps count
    optimizer steps everywhere. held: the development rows. The first process writes. SIGTERM to any of them
    ends all after one step more, with a checkpoint. TrainingError at the end for a task that learned nothing.
    """
    settings, world, of = job.settings, job.world, job.settings.optim
    if job.where.type == "cpu":
        freed_memory.keep()
    optimizer = optim.build(model, of)
    if state.step:
        last = checkpoint.find(job.folder, "last")
        checkpoint.load_optimizer(last, model, optimizer, averaged=of.ema is not None)
    if not world.first:
        state.sums = Sums()  # those of the checkpoint are the first one's to go on with
    steps, epoch_steps = planned_steps(len(stream), settings)
    parts_of_steps = by_step(stream.turns(job.where), state.position, of.batch, of.accumulate)
    emptiness = stream.emptiness()
    with Termination(world) as termination, Ledger(job.folder, steps, state, stream, world) as ledger:
        if state.unscored:
            state = _keep(job, model, optimizer, held, state, ledger)
        while state.step < steps and not development.given_up(state, settings):
            rate = learning_rate(state.step, steps, of)
            optim.set_learning_rate(optimizer, rate)
            parts = next(parts_of_steps)
            count = tally(parts, settings, termination.asked, world)
            if emptiness.everywhere(state.position + of.batch, not any(count.pictures)):
                raise stream.unreadable()
            due = (state.step + 1) % settings.log_every == 0 or state.step + 1 == steps
            context = StepContext(state.step, steps, job.seed, due, count)
            norms = step.backward(model, parts, settings, context, job.where, state.sums, world)
            _update(model, optimizer, settings, state.step)
            state = structs.replace(state, step=state.step + 1, position=state.position + of.batch)

            end_of_epoch = state.step % epoch_steps == 0 or state.step == steps
            kept = end_of_epoch or state.step % settings.checkpoint_every == 0 or count.asked
            if due or kept:
                state = ledger.settle(state, due)
            if due:
                ledger.write_line(state.step, rate, norms)
            if kept:
                state = _keep(job, model, optimizer, held if end_of_epoch else None, state, ledger)
            if count.asked:
                break
        ended = state.step == steps or development.given_up(state, settings)
        asked = state.asked if ended else None
        ledger.tell_end(settings.augment.synonyms > 0, unasked.measures(asked, settings.tasks))
    unasked.check(asked, settings.tasks)
    return state


def planned_steps(rows: int, settings: Train) -> tuple[int, int]:
    """(optimizer steps of the whole run, of one epoch)."""
    batch = settings.optim.batch
    return max(1, round(settings.optim.epochs * rows / batch)), max(1, round(rows / batch))


def _update(model: FusionModel, optimizer: torch.optim.Optimizer, settings: Train, number: int) -> None:
    """The weights by the gradients of the step of this number, and their running mean after them."""
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    model.limit_scales()
    if settings.optim.ema:
        averaging.follow(optimizer, settings.optim.ema, number)


def _keep(
    job: Job,
    model: FusionModel,
    optimizer: torch.optim.Optimizer,
    held: Stream | None,
    state: State,
    ledger: Ledger,
) -> State:
    """A checkpoint by the first process, scored where there are rows for it; gives the state it holds.

    Where the score fails the epoch is not lost: a resumed run scores it first.
    """
    state, best = structs.replace(state, unscored=held is not None), False
    with ledger.paused():
        if job.world.first:
            try:
                if held is not None:
                    scored = development.score(job, model, optimizer, held, state, ledger)
                    state, best = structs.replace(scored, unscored=False), development.is_best(scored)
            finally:
                checkpoint.save(job.folder, model, optimizer, state, best)
        return agree(state, job.world)
