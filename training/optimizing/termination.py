"""SIGTERM ends a run between two steps, with a checkpoint and an exit status of its own."""

import signal
from types import FrameType

from training.distributed import ALONE, World

STATUS = 128 + signal.SIGTERM  # what a shell shows for a process that SIGTERM ended


class Termination:
    """While it is entered, SIGTERM only sets `asked`; a second one ends the process as ever.

    But not one of several: a scheduler and torchrun may both pass on what was asked once, and torchrun kills
    those that do not end in time.
    """

    def __init__(self, world: World = ALONE) -> None:
        self.asked, self._alone = False, world.size == 1

    def __enter__(self) -> "Termination":
        self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def _ask(self, _signal: int, _frame: FrameType | None) -> None:
        self.asked = True
        if self._alone:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
