"""What no index counts is looked for in the first records, before a run trains on nothing."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import Protocol

from msgspec import Struct

from contract.errors import FuselineError, MismatchError, ShardError
from contract.index import is_pair
from contract.record import Record
from training.batching.faults import Unreadable
from training.batching.mixture import Span
from training.batching.needs import need
from training.config import Train
from training.stream import Stream

LOOKED_AT = 10_000  # pictures of each dataset that may all hold nothing of use
TURN = 100  # of them, before the next dataset is looked at
SHOWN = 5  # answers that an error names


class Sought(Protocol):
    """Something without which a task learns nothing."""

    def found_in(self, record: Record, dataset: str) -> bool:
        """Whether it has been found, now that this record was seen too."""

    def missing(self, stream: Stream, looked_at: str) -> FuselineError | None:
        """The error if it was not found; None where nothing was seen that could have held it."""


def check(settings: Train, stream: Stream) -> None:
    """The error of a task to which the first records leave nothing to learn from.

    Where one is damaged, or was left out by the run that goes on, nothing is refused: it may be what counts.
    """
    sought, looked_at = [] if stream.left_out() else _sought(settings, stream), 0
    try:
        for record, dataset in _first(stream) if sought else ():
            looked_at += 1
            sought = [one for one in sought if not one.found_in(record, dataset)]
            if not sought:
                return
    except Unreadable:
        return
    seen = "the only picture looked at" if looked_at == 1 else f"the {looked_at:,} pictures looked at"
    for error in (one.missing(stream, seen) for one in sought):
        if error:
            raise error


def _sought(settings: Train, stream: Stream) -> list[Sought]:
    tasks, single = settings.tasks, settings.optim.accumulate == 1  # parts may be of different datasets
    sought: list[Sought] = [KnownAnswer(stream.shards.answers)] if tasks.vqa else []
    if tasks.itc and not tasks.mined:  # mined pictures and texts come from beyond these records
        sought.append(OtherPicture("itc", by_dataset=single and not tasks.itc.bank))
    if tasks.itm and not tasks.mined and not (tasks.itm.sources.swapped and tasks.itm.sources.masked):
        sought.append(OtherPicture("itm", by_dataset=True))
    if tasks.region:
        sought.append(UsableBox())
    return sought


def _first(stream: Stream) -> Iterator[tuple[Record, str]]:
    """Of the first epoch of each dataset, its batches in turn with those of the others; not from where a run
    stands, so that one that could begin can go on.
    """
    for start in range(0, LOOKED_AT, TURN):
        for number, dataset in enumerate(stream.datasets):
            rows = min(TURN, len(dataset) - start)
            if rows > 0:
                places, _ = stream.planner.rows(Span(number, start, rows, 0))
                yield from ((record, dataset.dataset) for record in stream.planner.records(places))


class KnownAnswer:
    """A vocabulary of other questions would train nothing: every answer would be unknown to it."""

    def __init__(self, answers: list[str]) -> None:
        self.known = set(answers)
        self.asked = dict[str, None]()

    def found_in(self, record: Record, _dataset: str) -> bool:
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
            f"vqa would learn nothing from {looked_at}: no question has a known answer",
            found=", ".join(islice(self.asked, SHOWN)),
            expected=", ".join(stream.shards.answers[:SHOWN]) or "answers",
            fix="of tars without a manifest, name other --answers; of others, build data/ anew",
        )


class Said(Struct):
    """What is said of pictures that may be contrasted. groups: a group → whether it has a text."""

    groups: dict[str, bool] = {}
    words: set[str] = set()

    @property
    def enough(self) -> bool:
        """Two pictures, and two wordings or a picture of which nothing is said."""
        told = self.groups.values()
        return len(told) > 1 and any(told) and (len(self.words) > 1 or not all(told))

    @property
    def counts(self) -> str:
        """For an error."""
        return f"different pictures (`group`): {len(self.groups)}, different texts: {len(self.words)}"


class OtherPicture:
    """A text is told from those of another picture, in other words: of one picture alone nothing is false.

    by_dataset: only pictures of one dataset are contrasted, as those of a batch are.
    """

    def __init__(self, task: str, by_dataset: bool) -> None:
        self.task, self.by_dataset = task, by_dataset
        self.of = defaultdict[str, Said](Said)

    def found_in(self, record: Record, dataset: str) -> bool:
        """A picture and one that its text is false of."""
        of = self.of[dataset if self.by_dataset else ""]
        words = {text.text for text in record.texts if is_pair(text)}
        of.groups[record.group] = of.groups.get(record.group, False) or bool(words)
        of.words |= words
        return of.enough

    def missing(self, stream: Stream, looked_at: str) -> FuselineError | None:
        """All are copies of one picture, or say the same."""
        if not any(of.words for of in self.of.values()):
            return None
        several = len(self.of) > 1
        found = [f"{dataset}: {of.counts}" if several else of.counts for dataset, of in self.of.items()]
        return ShardError(
            stream.shards.folder,
            f"{self.task} would learn nothing from {looked_at}: no text is false of another's picture",
            found="; ".join(found),
            expected="two of each, or more" + ", in one dataset: a batch is of one" * several,
            fix=f"name shards of more pictures, or take {self.task} out of train.tasks",
        )


class UsableBox:
    """The index counts links to boxes, also to those of crowds, which no phrase is told by."""

    def __init__(self) -> None:
        self.links = 0

    def found_in(self, record: Record, _dataset: str) -> bool:
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
            f"region would learn nothing from {looked_at}: no text names the box of one thing",
            found="boxes of crowds alone",
            expected=need("region").takes,
            fix="name shards that have others, or take region out of train.tasks",
        )
