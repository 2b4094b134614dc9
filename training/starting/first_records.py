"""What no index counts is looked for in the first records, before a run trains on nothing."""

from collections.abc import Iterator
from itertools import islice
from typing import Protocol

from contract.errors import FuselineError, MismatchError, ShardError
from contract.index import is_pair
from contract.record import Record
from training.batching.faults import Unreadable
from training.batching.mixture import Span
from training.batching.needs import need
from training.config import Tasks
from training.stream import Stream

LOOKED_AT = 10_000  # pictures of each dataset that may all hold nothing of use
TURN = 100  # of them, before the next dataset is looked at
SHOWN = 5  # answers that an error names


class Sought(Protocol):
    """Something without which a task learns nothing."""

    def found_in(self, record: Record) -> bool:
        """Whether it has been found, now that this record was seen too."""

    def missing(self, stream: Stream, looked_at: str) -> FuselineError | None:
        """The error if it was not found; None where nothing was seen that could have held it."""


def check(tasks: Tasks, stream: Stream) -> None:
    """The error of a task to which the first records leave nothing to learn from.

    Where one is damaged, or was left out by the run that goes on, nothing is refused: it may be what counts.
    """
    sought, looked_at = [] if stream.left_out() else _sought(tasks, stream), 0
    try:
        for record in _first(stream) if sought else ():
            looked_at += 1
            sought = [one for one in sought if not one.found_in(record)]
            if not sought:
                return
    except Unreadable:
        return
    for error in (one.missing(stream, f"the {looked_at:,} pictures looked at") for one in sought):
        if error:
            raise error


def _sought(tasks: Tasks, stream: Stream) -> list[Sought]:
    sought: list[Sought] = [KnownAnswer(stream.shards.answers)] if tasks.vqa else []
    if tasks.itc and not tasks.mined:  # mined pictures and texts come from beyond these records
        sought.append(OtherPicture("itc"))
    if tasks.itm and not tasks.mined and not (tasks.itm.sources.swapped and tasks.itm.sources.masked):
        sought.append(OtherPicture("itm"))
    if tasks.region:
        sought.append(UsableBox())
    return sought


def _first(stream: Stream) -> Iterator[Record]:
    """Of the first epoch of each dataset, its batches in turn with those of the others; not from where a run
    stands, so that one that could begin can go on.
    """
    for start in range(0, LOOKED_AT, TURN):
        for number, dataset in enumerate(stream.datasets):
            rows = min(TURN, len(dataset) - start)
            if rows > 0:
                yield from stream.planner.records(stream.planner.rows(Span(number, start, rows, 0))[0])


class KnownAnswer:
    """A vocabulary of other questions would train nothing: every answer would be unknown to it."""

    def __init__(self, answers: list[str]) -> None:
        self.known = set(answers)
        self.asked = dict[str, None]()

    def found_in(self, record: Record) -> bool:
        """An answer that the model can give."""
        answers = [text.answer for text in record.texts if text.answer is not None]
        self.asked |= dict.fromkeys(answers)
        return not self.known.isdisjoint(answers)

    def missing(self, stream: Stream, looked_at: str) -> FuselineError | None:
        """None of these questions has a known answer."""
        if not self.asked:
            return None
        return MismatchError(
            stream.shards.folder,
            f"{looked_at} ask for none of the {len(self.known)} known answers: vqa would learn nothing",
            found=", ".join(islice(self.asked, SHOWN)),
            expected=", ".join(stream.shards.answers[:SHOWN]) or "answers",
            fix="of tars without a manifest, name other --answers; of others, build data/ anew",
        )


class OtherPicture:
    """A text is told from those of another picture, in other words: of one picture alone nothing is false."""

    def __init__(self, task: str) -> None:
        self.task = task
        self.groups, self.words = dict[str, bool](), set[str]()  # a group → whether it has a text

    def found_in(self, record: Record) -> bool:
        """Two pictures, and two wordings or a picture of which nothing is said."""
        words = {text.text for text in record.texts if is_pair(text)}
        self.groups[record.group] = self.groups.get(record.group, False) or bool(words)
        self.words |= words
        told = list(self.groups.values())
        return len(told) > 1 and any(told) and (len(self.words) > 1 or not all(told))

    def missing(self, stream: Stream, looked_at: str) -> FuselineError | None:
        """All are copies of one picture, or say the same."""
        if not self.words:
            return None
        return ShardError(
            stream.shards.folder,
            f"{looked_at} have no text that is false of another's picture: {self.task} would learn nothing",
            found=f"different pictures (`group`): {len(self.groups)}, different texts: {len(self.words)}",
            expected="two of each, or more",
            fix=f"name shards of more pictures, or take {self.task} out of train.tasks",
        )


class UsableBox:
    """The index counts links to boxes, also to those of crowds, which no phrase is told by."""

    def __init__(self) -> None:
        self.links = 0

    def found_in(self, record: Record) -> bool:
        """A box of one thing that a text or a span of it names."""
        links = [row for text in record.texts for rows in (text.about, *text.span_regions) for row in rows]
        self.links += len(links)
        return not set(links).issubset(record.regions.crowd)

    def missing(self, stream: Stream, looked_at: str) -> FuselineError | None:
        """Crowds alone."""
        if not self.links:
            return None
        return ShardError(
            stream.shards.folder,
            f"{looked_at} have no text that names the box of one thing: region would learn nothing",
            found="boxes of crowds alone",
            expected=need("region").takes,
            fix="name shards that have others, or take region out of train.tasks",
        )
