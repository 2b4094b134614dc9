"""Mined texts: of other pictures, near a text and not true of its picture.

Of those pictures only the records are read. So whether one can be used hangs on its record alone, and not on
what a process has found damaged in its features before: batches would differ with that.
"""

from collections.abc import Callable, Sequence

from contract.errors import ShardError
from contract.record import Record, Text
from training.batching.faults import Fault, Faults, Unreadable, attempt
from training.reading.members import Member, Reader, decode_record
from training.reading.tars import Tars
from training.shards import Place

Candidates = Sequence[tuple[Place | None, str]]  # (picture, id of its text), in turn; None: not there


class NearTexts:
    """take: texts for each. json: the records of a shard; vocabulary: what their tokens lie below."""

    def __init__(
        self, take: int, tars: Tars, json: Callable[[int], Member], vocabulary: int | None, faults: Faults
    ) -> None:
        self.take = take
        self._tars, self._json, self._vocabulary, self._faults = tars, json, vocabulary, faults

    def of(self, texts: Sequence[Text], candidates: Sequence[Candidates]) -> list[list[Text]]:
        """For each text the first; Unreadable where a record is damaged that was not known to be.

        Only texts of its own role: a wrong text could be told by being a phrase among captions.
        """
        known: dict[Place, Record | Fault] = {}
        found = [self._first(text, of_text, known) for text, of_text in zip(texts, candidates, strict=True)]
        damaged = [fault for fault in known.values() if isinstance(fault, Fault)]
        if new := [fault for fault in damaged if fault.place not in self._faults]:
            raise Unreadable(new)
        return found

    def _first(self, text: Text, candidates: Candidates, known: dict[Place, Record | Fault]) -> list[Text]:
        found: list[Text] = []
        for place, wanted in candidates:
            if place is None:
                continue
            if len(found) == self.take:
                break
            if place not in known:
                known[place] = attempt(self._record, place)
            record = known[place]
            near = None if isinstance(record, Fault) else self._said(record, place, wanted)
            if near and near.role == text.role:
                found.append(near)
        return found

    def _record(self, place: Place) -> Record:
        member = self._json(place.shard)
        with Reader(self._tars) as reader:
            payload = reader.payload(member, place.row)
        with self._tars.meter.measure("decode"):
            return decode_record(payload, member, place.row, self._vocabulary)

    def _said(self, record: Record, place: Place, wanted: str) -> Text:
        """The text of that id in a record."""
        for text in record.texts:
            if text.id == wanted:
                return text
        raise ShardError(
            self._json(place.shard).where(place.row),
            f"has no text {wanted}, which the negatives name",
            fix="mine again (dvc repro negatives)",
        )
