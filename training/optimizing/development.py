"""The score on held-out pictures after an epoch: it chooses the best checkpoint, and may end training."""

import math
from collections import Counter

import torch
from msgspec import structs

from contract.errors import TrainingError
from contract.seeds import seed64
from training.batch import Batch
from training.config import Train
from training.model.model import FusionModel
from training.model.tasks import TASKS
from training.optimizing import averaging, step
from training.optimizing.checkpoint import State, Sums
from training.optimizing.job import Job
from training.optimizing.ledger import Ledger
from training.stream import Stream

CLEARLY = 2.0  # standard errors of a guess


def score(
    job: Job,
    model: FusionModel,
    optimizer: torch.optim.Optimizer,
    held: Stream,
    state: State,
    ledger: Ledger,
) -> State:
    """The state with the score of the weights as they are now, or of their running mean.

    TrainingError where nothing held out asks for the measure that is to choose the best checkpoint.
    """
    known, measure = held.left_out(), goal(job.settings)
    torch.manual_seed(seed64(job.seed, "development", state.step))  # of `fill: noise`
    with averaging.averaged(optimizer):
        sums = held_out(model, held, job.where)
    scores = sums.means()
    if measure not in scores:
        raise _nothing_asked(measure, len(held))
    state = judged(state, scores[measure])
    ledger.tell_skipped(known, held.left_out())
    answers = sums.measures[measure][1] * _worth(measure)
    chance = against_chance(scores[measure], answers, scores.get(f"{measure}_chance"))
    mark = " (best)" if is_best(state) else ""
    ledger.say(f"step {state.step}: development {measure} {scores[measure]:.3f}{mark}{chance}")
    if given_up(state, job.settings):
        ledger.say(f"no better {measure} in {state.stale} epochs: training ends")
    ledger.tell_scores(state.step, scores)
    return state


@torch.inference_mode()
def check_asked(model: FusionModel, held: Stream, settings: Train) -> None:
    """TrainingError where it would come after the first epoch. On the CPU, to the first answer."""
    model.eval()
    sums, measure = Sums(), goal(settings)
    for batch in held:
        step.count(sums, model(batch))
        if measure in sums.means():
            return
    raise _nothing_asked(measure, len(held))


def against_chance(score: float, answers: float, chance: float | None) -> str:
    """What to say of a score over so many answers beside what a guess would reach, if that is known."""
    if chance is None:
        return ""
    above = score - chance > CLEARLY * math.sqrt(chance * (1 - chance) / answers)
    return f", chance {chance:.3f}" if above else f", NO BETTER THAN CHANCE ({chance:.3f})"


def _worth(measure: str) -> float:
    task, _, name = measure.partition("/")
    return TASKS[task].worth.get(name, 1.0)


def judged(state: State, score: float) -> State:
    """The state after one more score."""
    if state.best is None or score > state.best:
        return structs.replace(state, best=score, stale=0)
    return structs.replace(state, stale=state.stale + 1)


def is_best(state: State) -> bool:
    """Of a state that was just judged: whether no score before was as high."""
    return state.best is not None and state.stale == 0


def goal(settings: Train) -> str:
    """The measure that chooses the best checkpoint: `train.best`, else that of the first task."""
    first = next(iter(settings.tasks.chosen))
    return settings.best or f"{first}/{TASKS[first].measures[0]}"


def given_up(state: State, settings: Train) -> bool:
    """Whether `train.patience` is at its end."""
    return settings.patience is not None and state.stale >= settings.patience


def _nothing_asked(measure: str, pictures: int) -> TrainingError:
    return TrainingError(
        "train.development",
        f"nothing that is held out asks for {measure}, which chooses the best checkpoint",
        found=f"pictures held out: {pictures}",
        fix="start a new run with a larger share, another train.best, or shards that have more for it",
    )


@torch.inference_mode()
def held_out(model: FusionModel, stream: Stream, where: torch.device) -> Sums:
    """The measures of the held-out part of the training pictures. The chance of vqa is what the most frequent
    answer of that part would reach: no model that says one answer to all reaches more.
    """
    model.eval()
    stream.position = 0
    sums, answers = Sums(), Counter[int]()
    for batch in stream.on(where):
        step.count(sums, model(batch))
        answers.update(_answers(batch))
    if answers:
        known = (count for answer, count in answers.items() if answer >= 0)
        sums.add("vqa/accuracy_chance", max(known, default=0), answers.total())
    return sums


def _answers(batch: Batch) -> list[int]:
    """Of the questions of a run that answers some; -1 outside the vocabulary."""
    found: list[int] = batch.answer[batch.rows["vqa"]].tolist() if "vqa" in batch.rows else []
    return found
