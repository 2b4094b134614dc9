"""What a whole run was never asked: a task whose loss was 0 at every step looks as if it had been trained."""

from collections.abc import Collection

from contract.errors import TrainingError
from training.config import Region, Tasks, Weighted
from training.model.tasks import TASKS


def measures(asked: Collection[str] | None, tasks: Tasks) -> list[str]:
    """Those of what the tasks learn from, as "region/matching", that are not among the asked ones.

    asked: None where that is not known; then there are none.
    """
    if asked is None:
        return []
    learned = (f"{task}/{name}" for task, options in tasks.chosen.items() for name in _learned(task, options))
    return [name for name in learned if name not in asked]


def check(asked: Collection[str] | None, tasks: Tasks) -> None:
    """TrainingError for a task of which nothing at all was asked."""
    never = set(measures(asked, tasks))
    for task, options in tasks.chosen.items():
        learned = [f"{task}/{name}" for name in _learned(task, options)]
        if never.issuperset(learned):
            raise TrainingError(
                f"train.tasks.{task}",
                "nothing in the whole run asked anything of it, so that it has learned nothing",
                found=f"0 answers for {', '.join(learned)}",
                fix=f"take {task} out of train.tasks, or name shards that have more for it",
            )


def _learned(task: str, options: Weighted) -> tuple[str, ...]:
    """The measures of what a task's loss is over."""
    if task == "itm":
        return ("balanced",)  # a side alone is asked also where no text has a wrong partner
    if not isinstance(options, Region):
        return TASKS[task].measures
    weights = {
        "matching": (options.coarse, options.coarse_end),
        "one_of_n": (options.fine, options.fine_end, options.rank, options.false_phrases),
    }
    return tuple(name for name, of in weights.items() if any(of))
