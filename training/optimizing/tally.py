"""What all processes have to know of a step before it: how much its parts hold, and if it is the last."""

from collections.abc import Mapping

import torch
from msgspec import Struct

from training.batch import Batch
from training.config import Train
from training.distributed import World
from training.model.gathering import Size
from training.model.tasks import TASKS


class Tally(Struct, frozen=True):
    """counts: task → of each of its losses, how many of each part of the step it is over. pictures: of each
    part. asked: whether a process is asked to end.
    """

    counts: dict[str, list[list[int]]]
    pictures: list[int]
    asked: bool

    def shares(self, task: str, part: int) -> list[float]:
        """Of each loss of a task, the share that a part has in the mean over the whole step."""
        return [of_parts[part] / max(1, sum(of_parts)) for of_parts in self.counts[task]]

    @property
    def contrasted(self) -> list[Size]:
        """What itc contrasts of each part."""
        return [Size(*of) for of in zip(*self.counts["itc"], self.pictures, strict=True)]


def tally(parts: Mapping[int, Batch], settings: Train, asked: bool, world: World) -> Tally:
    """Count this process's parts and add up with the others; a part that is missing is empty."""
    of = settings.optim.accumulate
    losses = [(task, count) for task in settings.tasks.chosen for count in TASKS[task].counts]
    table = torch.zeros(of + 1, len(losses) + 1, dtype=torch.int64)
    for number, part in parts.items():
        table[number] = torch.tensor([*(count(part) for _, count in losses), len(part.keys)])
    table[of] = int(asked)
    world.add(table)
    *counted, pictures = table[:of].T.tolist()
    counts: dict[str, list[list[int]]] = {task: [] for task, _ in losses}
    for (task, _), of_parts in zip(losses, counted, strict=True):
        counts[task].append(of_parts)
    return Tally(counts, pictures, bool(table[of].any()))
