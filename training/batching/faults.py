"""What to do about a picture that cannot be read: stop, or leave it out, counted and named, up to a limit."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from msgspec import Struct

from contract.errors import ShardError, unknown_name
from training.shards import Place

T = TypeVar("T")
POLICIES = ("stop", "skip")


class Fault(Struct):
    """A picture and why it cannot be read."""

    place: Place
    error: ShardError


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
        self._before = dict.fromkeys(map(_place, before))
        self.found: dict[Place, ShardError] = {}
        self._since: dict[Place, int] = {}  # the end of the batch from which it was left out

    def __contains__(self, place: Place) -> bool:
        return place in self.found or place in self._before

    def skipped(self, position: int) -> dict[str, str]:
        """Why each was left out of the batches up to `position`, by "shard:row"; "" if that was known before.

        What was met in batches read ahead is not told yet, so that a run tells the same however far it reads.
        """
        met = [place for place in self.found if self._since[place] <= position]
        before = dict.fromkeys(map(_name, self._before), "")
        return before | {_name(place): self.found[place].text() for place in met}

    def add(self, faults: Iterable[Fault], position: int) -> None:
        """Leave these out from now on, or raise the first of them. position: the end of their batch."""
        for fault in faults:
            if self._on_error == "stop":
                raise fault.error
            self.found[fault.place] = fault.error
            self._since.setdefault(fault.place, position)
            if (count := len(self.found) + len(self._before)) > self._most:
                raise ShardError(
                    fault.error.where,
                    f"one more picture that cannot be read: {fault.error.problem}",
                    found=f"{count} of them",
                    expected=f"at most {self._most}",
                    fix="fetch or rebuild the shards, or raise train.max_skipped",
                ) from fault.error


def _name(place: Place) -> str:
    return f"{place.shard}:{place.row}"


def _place(name: str) -> Place:
    shard, row = name.split(":")
    return Place(int(shard), int(row))


def attempt(read: Callable[[Place], T], place: Place) -> T | Fault:
    """What was read of a picture, or why it could not be."""
    try:
        return read(place)
    except ShardError as error:
        return Fault(place, error)


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
