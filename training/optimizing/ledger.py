"""What all processes of a run did since its last line of the log, and what the first of them says of it."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from msgspec import Struct, structs

from training.distributed import World
from training.optimizing.account import Account, gather
from training.optimizing.checkpoint import State, Sums
from training.optimizing.log import Log
from training.optimizing.step import Norms
from training.reading.meter import shares
from training.stream import Stream


class Clock(Struct):
    """When the last line of the log was written, or this process began, later by what was paused since; and
    how the account stood then.
    """

    started: float
    texts: int
    account: Account


class Ledger:
    """The account of all processes, and the log of the first: the others say nothing.

    Every process must open it, and settle, at the same steps.
    """

    def __init__(self, run: Path, steps: int, state: State, stream: Stream, world: World) -> None:
        self._stream, self._world = stream, world
        self._log = Log(run, steps, state.step) if world.first else None
        self._account = gather(state.sums, stream, world)
        self._clock = Clock(time.perf_counter(), state.sums.texts, self._account)

    def __enter__(self) -> "Ledger":
        if self._log is not None:
            self._log.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._log is not None:
            self._log.__exit__(kind, error, trace)

    def settle(self, state: State, due: bool) -> State:
        """The state with what all did. due: a line is written of it, so that its sums begin anew; else they
        are the first process's to go on with.
        """
        self._account = gather(state.sums, self._stream, self._world)
        self._stream.faults.check(self._account.skipped)
        asked = None if state.asked is None else sorted({*state.asked, *self._account.sums.means()})
        sums = self._account.sums if self._world.first and not due else Sums()
        return structs.replace(state, sums=sums, skipped=sorted(self._account.skipped), asked=asked)

    def write_line(self, step: int, rate: float, norms: Norms) -> None:
        """Of the account as it was settled at this step, at this learning rate."""
        if self._log is not None:
            self.tell_skipped(self._clock.account.skipped, self._account.skipped)
            metrics = _metrics(self._account, rate, norms)
            self._log.step(step, metrics, _speed(self._account, self._clock))
        self._clock = Clock(time.perf_counter(), 0, self._account)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done inside is no part of the time that training is timed by."""
        started = time.perf_counter()
        yield
        self._clock.started += time.perf_counter() - started

    def tell_skipped(self, before: Mapping[str, str], now: Mapping[str, str]) -> None:
        """Of the pictures left out, those that were not left out before."""
        for place, why in now.items():
            if place not in before:
                self.say(f"skipped: {why}")

    def tell_scores(self, step: int, scores: Mapping[str, float]) -> None:
        """The development scores."""
        if self._log is not None:
            self._log.record(step, {f"development/{name}": score for name, score in scores.items()})

    def tell_end(self, rewords: bool, unasked: Iterable[str]) -> None:
        """What was remarkable of the whole run. rewords: texts were to be changed by synonyms. unasked:
        measures that nothing asked for.
        """
        for measure in unasked:
            self.say(f"nothing in the whole run asked for {measure}")
        if rewords and not self._stream.planner.reworded:
            self.say("augment.synonyms: no text names a thing that has another word")
        if cut := self._account.truncated:
            self.say(f"{cut:,} texts were cut at {self._stream.max_tokens} tokens")

    def say(self, text: str) -> None:
        """A line of its own."""
        if self._log is not None:
            self._log.say(text)


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
