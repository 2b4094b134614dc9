"""What to do about a picture that cannot be read: stop, or leave it out, counted and named, up to a limit."""

import re
from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

from msgspec import Struct

from contract.errors import ParamsError, ShardError, unknown_name
from training.shards import Place

T = TypeVar("T")
POLICIES = ("stop", "skip")
ANCHOR = "anchor"  # the end of a fault's name, where it is one of an anchor
NAME = re.compile(rf"([0-9]{{1,10}}):([0-9]{{1,10}})(?::{ANCHOR})?")


class Fault(Struct):
    """A picture and why it cannot be read.

    anchor: only its own negatives are damaged. Nobody notices where another names the picture, so there it
    stays: else a batch would depend on which were read before it.
    """

    place: Place
    error: ShardError
    anchor: bool = False

    @property
    def name(self) -> str:
        """ "shard:row", or "shard:row:anchor"."""
        return f"{self.place.shard}:{self.place.row}" + f":{ANCHOR}" * self.anchor


class Unreadable(Exception):
    """Pictures of a batch that cannot be read: the batch must be planned again without them."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(str(faults[0].error))
        self.faults = faults


class Faults:
    """The pictures that were left out so far. on_error: `stop` or `skip`; most: of them, in a whole run.

    before: those that were known when the run went on, as `skipped` named them; they are not read again.
    """

    def __init__(self, on_error: str, most: int, before: Iterable[str] = ()) -> None:
        if on_error not in POLICIES:
            raise unknown_name("train.on_error", "policy", on_error, POLICIES)
        self._on_error, self._most = on_error, most
        self._before = dict[str, str]()
        self.found: dict[str, ShardError] = {}  # by the names of the faults
        self._since: dict[str, int] = {}  # the end of the batch from which it was left out
        self._lost, self._no_anchors = set[Place](), set[Place]()
        self.know(before)

    def __contains__(self, place: Place) -> bool:
        """Whether a picture is left out wherever it is named."""
        return place in self._lost

    def bars(self, place: Place) -> bool:
        """Whether a picture is left out as an anchor."""
        return place in self._no_anchors

    def skipped(self, position: int) -> dict[str, str]:
        """Why each was left out of the batches up to `position`, by its name; "" if that was known before.

        What was met in batches read ahead is not told yet, so that a run tells the same however far it reads.
        """
        met = [name for name in self.found if self._since[name] <= position]
        return self._before | {name: self.found[name].text() for name in met}

    def add(self, faults: Iterable[Fault], position: int) -> None:
        """Leave these out from now on, or raise the first of them. position: the end of their batch."""
        for fault in faults:
            if self._on_error == "stop":
                raise fault.error
            self._leave_out(fault, position)
            said = f"one more picture that cannot be read: {fault.error.problem}"
            self._limit(self._no_anchors, fault.error.where, said)

    def know(self, names: Iterable[str]) -> None:
        """Leave these out too, which another stream over the same shards could not read."""
        self._before |= dict.fromkeys(names, "")
        self._lost |= {_place(name) for name in self._before if not name.endswith(ANCHOR)}
        self._no_anchors |= {_place(name) for name in self._before}

    def check(self, skipped: Collection[str]) -> None:
        """ShardError when these, as `skipped` names them, are too many: those of all processes together."""
        if self._on_error == "skip":
            said = "more pictures cannot be read, in all processes together, than this run may leave out"
            self._limit(set(map(_place, skipped)), "training", said)

    def _leave_out(self, fault: Fault, position: int) -> None:
        self.found[fault.name] = fault.error
        self._since.setdefault(fault.name, position)
        self._no_anchors.add(fault.place)
        if not fault.anchor:
            self._lost.add(fault.place)

    def _limit(self, places: Collection[Place], where: str, problem: str) -> None:
        if len(places) > self._most:
            raise ShardError(
                where,
                problem,
                found=f"{len(places)} of them",
                expected=f"at most {self._most}",
                fix="fetch or rebuild the shards, or raise train.max_skipped",
            )


def _place(name: str) -> Place:
    found = NAME.fullmatch(name)
    if found is None:
        expected = f"shard:row or shard:row:{ANCHOR}, both by number"
        raise ParamsError("skipped", "names no picture that was left out", found=name, expected=expected)
    return Place(int(found[1]), int(found[2]))


def attempt(read: Callable[[Place], T], place: Place, anchor: bool = False) -> T | Fault:
    """What was read of a picture, or why it could not be. anchor: only anchors need it."""
    try:
        return read(place)
    except ShardError as error:
        return Fault(place, error, anchor)


def all_read(results: Iterable[T | Fault]) -> list[T]:
    """The results, once none of them is a fault; Unreadable with all that are."""
    read: list[T] = []
    faults: list[Fault] = []
    for result in results:
        if isinstance(result, Fault):
            faults.append(result)
        else:
            read.append(result)
    if faults:
        raise Unreadable(faults)
    return read
