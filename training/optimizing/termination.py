"""SIGTERM ends a run between two steps, with a checkpoint and an exit status of its own."""

import signal
from types import FrameType

STATUS = 128 + signal.SIGTERM  # what a shell shows for a process that SIGTERM ended


class Termination:
    """While it is entered, SIGTERM only sets `asked`; a second one ends the process as ever."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "Termination":
        self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def _ask(self, _signal: int, _frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
