"""Plan: which pictures, texts and negatives a batch holds, decided before a feature is read.

The order is a pure function of the seed and a position (`training.order`); records are read and decoded
here, and every picture that a text or a neighbour names is found among the given shards.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from contract.errors import ShardError
from contract.record import Record, Text
from contract.seeds import uniform
from training import order
from training.collate import Chosen
from training.mined import Mined
from training.needs import Need
from training.reading import Tars, read_record
from training.shards import Place, ShardSet

MAX_UNRESOLVED = 0.05  # share of mined negatives that may lie outside the given shards
ENOUGH = 1000  # negatives, before that share means something


class Plan(Struct):
    """One batch before its features. Anchors come first in `places`, then pictures that they name.

    A batch that straddles two epochs can hold an anchor twice, each row with its epoch's mask and texts.
    """

    anchors: int
    places: list[Place]
    epochs: list[int]
    records: list[Record]
    keys: list[str]
    chosen: list[Chosen]
    near: list[list[Place]]  # resolved negatives per anchor

    @property
    def rows(self) -> dict[Place, int]:
        """Where each picture lies in the batch; the first of two rows."""
        rows: dict[Place, int] = {}
        for number, place in enumerate(self.places):
            rows.setdefault(place, number)
        return rows


class Planner:
    """Positions → plans. rows: the eligible pictures of one part of the split (see `part_of`)."""

    def __init__(
        self,
        shards: ShardSet,
        needs: Sequence[Need],
        tars: Tars,
        *,
        seed: int,
        shuffle: str,
        texts_per_image: int | None,
        negatives: int,
        rows: tuple[NDArray[np.int64], NDArray[np.int64]],
    ) -> None:
        self.shards, self.needs, self.tars = shards, needs, tars
        self.seed, self.shuffle = seed, shuffle
        self.texts_per_image, self.negatives = texts_per_image, negatives
        self.wanted = self.unresolved = 0  # negatives asked for, and not among the given shards
        self._shard, self._row = rows
        self._found: dict[tuple[str, str], Place] = {}
        self._mined = Mined(shards, tars, negatives) if negatives else None

    def __len__(self) -> int:
        return len(self._row)

    def plan(self, position: int, count: int, readers: ThreadPoolExecutor) -> Plan:
        """The batch of `count` rows from `position` on."""
        rows, epochs = order.rows_at(self.shuffle, self.seed, position, count, len(self))
        places = [Place(int(self._shard[row]), int(self._row[row])) for row in rows]
        records = list(readers.map(self._record, places))
        chosen = [
            self._chosen(text, number, places[number])
            for number, record in enumerate(records)
            for text in self._texts(record, self.key(places[number]), int(epochs[number]))
        ]
        near = [self._near(place) for place in places]
        named = _named(places, chosen, near)
        return Plan(
            anchors=count,
            places=places + named,
            epochs=[int(epoch) for epoch in epochs] + [int(epochs[0])] * len(named),
            records=records + list(readers.map(self._record, named)),
            keys=[self.key(place) for place in places + named],
            chosen=chosen,
            near=near,
        )

    def key(self, place: Place) -> str:
        """The key of a picture."""
        key: bytes = self.shards.shards[place.shard].index.rows["key"][place.row]
        return key.decode("ascii")

    def _record(self, place: Place) -> Record:
        shard = self.shards.shards[place.shard]
        return read_record(self.tars, shard.path, shard.index, place.row, self.shards.vocabulary)

    def _texts(self, record: Record, key: str, epoch: int) -> list[Text]:
        usable = [text for text in record.texts if any(need.usable(text) for need in self.needs)]
        take = self.texts_per_image or len(usable)
        return [usable[i] for i in order.choose_texts(self.seed, key, epoch, len(usable), take)]

    def _chosen(self, text: Text, number: int, anchor: Place) -> Chosen:
        """The text with the pictures that it names, where a task wants them."""
        if not (text.target and any(need.targets for need in self.needs)):
            return Chosen(text, number)
        members = [place for key in text.members if (place := self._find(anchor, key))]
        return Chosen(text, number, self._target(anchor, text), members)

    def _target(self, anchor: Place, text: Text) -> Place:
        place = self._find(anchor, text.target[0])
        if place is None:
            raise ShardError(
                self.shards.shards[anchor.shard].path,
                f"target {text.target[0]} of {self.key(anchor)} is in none of the given shards",
                fix="give all shards of the split",
            )
        return place

    def _near(self, place: Place) -> list[Place]:
        """The first K mined neighbours of a picture that are among the given shards."""
        if self._mined is None:
            return []
        keys = self._mined.keys(self.shards.shards[place.shard], place.row)
        there = [found for key in keys if (found := self._find(place, key))][: self.negatives]
        self._count(min(self.negatives, len(keys)), len(there))
        return there

    def _count(self, wanted: int, resolved: int) -> None:
        self.wanted += wanted
        self.unresolved += wanted - resolved
        if self.wanted > ENOUGH and self.unresolved > MAX_UNRESOLVED * self.wanted:
            raise ShardError(
                self.shards.folder,
                "mined negatives lie outside the given shards",
                found=f"{self.unresolved / self.wanted:.0%} unresolved",
                expected=f"at most {MAX_UNRESOLVED:.0%}",
                fix="give all shards of the split",
            )

    def _find(self, anchor: Place, key: str) -> Place | None:
        """The picture of that key in the anchor's dataset, if it is among the given shards."""
        if not self._found:
            for number, shard in enumerate(self.shards.shards):
                self._found |= {
                    (shard.dataset, k): Place(number, row) for row, k in enumerate(shard.index.keys())
                }
        return self._found.get((self.shards.shards[anchor.shard].dataset, key))


def _named(places: list[Place], chosen: list[Chosen], near: list[list[Place]]) -> list[Place]:
    """Pictures that targets, image sets and negatives name: each once, anchors left out."""
    named = [entry.target for entry in chosen if entry.target]
    named += [place for entry in chosen for place in entry.members]
    named += [place for neighbours in near for place in neighbours]
    anchors = set(places)
    return [place for place in dict.fromkeys(named) if place not in anchors]


def part_of(
    shards: ShardSet, needs: Sequence[Need], part: str, development: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(shard, row) of the eligible pictures of "train" or "development", told apart by a hash of the key."""
    shard, row = shards.eligible({need.counted for need in needs})
    held = np.zeros(len(row), np.bool_)
    if development:
        keys = (shards.shards[s].index.rows["key"][r].decode() for s, r in zip(shard, row, strict=True))
        held = np.array([uniform("development", key) < development for key in keys], np.bool_)
    keep = held if part == "development" else ~held
    return shard[keep], row[keep]
