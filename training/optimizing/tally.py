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
    """texts: task → how many of each part of the step. pictures: of each part. asked: whether a process is
    asked to end.
    """

    texts: dict[str, list[int]]
    pictures: list[int]
    asked: bool

    def total(self, task: str) -> int:
        """The texts of a task in the whole step."""
        return sum(self.texts[task])

    @property
    def contrasted(self) -> list[Size]:
        """What itc contrasts of each part."""
        return [Size(*of) for of in zip(self.texts["itc"], self.pictures, strict=True)]


def tally(parts: Mapping[int, Batch], settings: Train, asked: bool, world: World) -> Tally:
    """Count this process's parts and add up with the others; a part that is missing is empty."""
    tasks, of = list(settings.tasks.chosen), settings.optim.accumulate
    table = torch.zeros(of + 1, len(tasks) + 1, dtype=torch.int64)
    for number, part in parts.items():
        table[number] = torch.tensor([*(TASKS[name].texts(part) for name in tasks), len(part.keys)])
    table[of] = int(asked)
    world.add(table)
    *texts, pictures = table[:of].T.tolist()
    return Tally(dict(zip(tasks, texts, strict=True)), pictures, bool(table[of].any()))
