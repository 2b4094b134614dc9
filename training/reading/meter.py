"""Where a stream's time goes, by cause: what to buy, or to mend, when training waits for data."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

CAUSES = ("disk", "check", "decode", "assemble", "copy", "device")


class Meter:
    """Seconds of all threads together. disk: reads, page cache or not; check: hashes; decode: records and
    negatives; assemble: texts, masks and boxes into tensors; copy: visible tokens together, before they
    travel; device: the step's wait for what travels onto it.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(CAUSES, 0.0)
        self._lock = Lock()

    @contextmanager
    def measure(self, cause: str) -> Iterator[None]:
        """Count the time inside towards a cause."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(**{cause: time.perf_counter() - started})

    def add(self, **seconds: float) -> None:
        """Count seconds towards their causes."""
        with self._lock:
            for cause, passed in seconds.items():
                self.seconds[cause] += passed


def shares(before: dict[str, float], now: dict[str, float]) -> dict[str, float]:
    """The share of each cause in what was spent between two readings."""
    spent = {cause: now[cause] - before[cause] for cause in CAUSES}
    total = sum(spent.values())
    return {cause: seconds / total if total else 0.0 for cause, seconds in spent.items()}
