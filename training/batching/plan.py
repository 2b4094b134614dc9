"""Plan: which pictures, texts and negatives a batch holds, decided before a feature is read.

The order is a pure function of the seed and a position (`order.py`); records are read and decoded here, and
every picture that a text or a neighbour names is found among the given shards.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import compress
from typing import Protocol

import numpy as np
from msgspec import Struct

from contract.errors import ShardError
from contract.record import Near, Negatives, Record, Text
from training.batching.collate import Chosen
from training.batching.eligible import Eligible, held_out
from training.batching.faults import Fault, Faults, all_read, attempt
from training.batching.lookup import Lookup
from training.batching.mined import Mined, near_texts, swaps
from training.batching.mixture import Span
from training.batching.needs import Need
from training.batching.order import Order, choose_texts, turns
from training.reading.members import Member, Reader, decode_record
from training.reading.tars import Tars
from training.shards import Place, ShardSet

MAX_UNRESOLVED = 0.05  # share of mined negatives that may lie outside the given shards
ENOUGH = 1000  # negatives, before that share means something


class Plan(Struct):
    """One batch of one dataset, before its features: in `places` the anchors, then pictures that they name.

    A batch that straddles two epochs can hold an anchor twice, each row with its epoch's mask and texts.
    """

    dataset: int
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


Neighbours = Sequence[Sequence[Place | None]]  # of each, nearest first; None: not among the shards


class Change(Protocol):
    """Other words for what texts name; where there are none, the text itself is given back."""

    def shown(self, text: Text, key: str, epoch: int) -> Text:
        """The text of a picture of this key as it is shown in an epoch."""

    def plain(self, text: Text) -> Text:
        """One text for all that are told apart by such words alone."""


class Planner:
    """Spans of rows → plans. datasets: their eligible pictures, in the order in which spans number them.

    development: share of the pictures, by key, that are nobody's mined negatives here, nor their texts.
    """

    def __init__(
        self,
        shards: ShardSet,
        needs: Sequence[Need],
        tars: Tars,
        *,
        seed: int,
        shuffle: str,
        window: int,
        texts_per_image: int | None,
        negatives: int,
        swaps: int,
        near_texts: int,
        development: float,
        datasets: Sequence[Eligible],
        faults: Faults,
        change: Change | None = None,
    ) -> None:
        self.shards, self.needs, self.tars = shards, needs, tars
        self._usable = needs[0].usable if len(needs) == 1 else self._usable_by_any
        self._targets = any(need.targets for need in needs)
        self._reads_targets = any(need.targets and not need.by_key for need in needs)
        self.seed, self.datasets, self.faults = seed, datasets, faults
        self.orders = [Order(of.counts, seed=seed, shuffle=shuffle, window=window) for of in datasets]
        self.texts_per_image, self._development = texts_per_image, development
        self.negatives, self.swaps, self.near_texts = negatives, swaps, near_texts
        self._change, self.reworded = change, 0
        self.wanted = self.unresolved = 0  # negatives asked for, and not among the given shards
        self._counted: Span | None = None  # the last whose negatives are in these numbers
        self._lookups: dict[str, Lookup] = {}
        self._json = lru_cache(maxsize=None)(self._open_json)
        asked = negatives or swaps or near_texts
        self.mined = Mined(shards, tars, negatives, bool(near_texts)) if asked else None

    def plan(self, span: Span) -> Plan:
        """The batch of one dataset's rows, without those that are known to be damaged."""
        places, epochs = self.rows(span)
        records, keys = self.records(places), list(map(self.key, places))
        chosen = [
            self._chosen(text, number, places[number], turn)
            for number, record in enumerate(records)
            for text, turn in self._texts(record, keys[number], epochs[number])
            if self._complete(text, places[number])
        ]
        mined = all_read(attempt(self._negatives, place, anchor=True) for place in places)
        barred = self._barred(mined)
        found = [
            self._find(place, [key for key in of.pictures.key if key not in barred])
            for place, of in zip(places, mined, strict=True)
        ]
        near = [self._readable(neighbours)[: self.negatives] for neighbours in found]
        self._count(span, found)
        for entry in chosen if self.mined else ():
            self._add_false(entry, mined[entry.picture], keys[entry.picture], barred)
        self._reword(chosen, keys, epochs)
        named = _named(places, chosen if self._reads_targets else [], near)
        return Plan(
            dataset=span.dataset,
            anchors=len(places),
            places=places + named,
            epochs=epochs + epochs[:1] * len(named),
            records=records + self.records(named),
            keys=keys + list(map(self.key, named)),
            chosen=chosen,
            near=near,
        )

    def key(self, place: Place) -> str:
        """The key of a picture."""
        return self.shards.shards[place.shard].index.key(place.row)

    def rows(self, span: Span) -> tuple[list[Place], list[int]]:
        """The pictures of a span and the epoch of each."""
        rows, epochs = self.orders[span.dataset].at(span.start, span.rows)
        dataset = self.datasets[span.dataset]
        lie = zip(dataset.shard[rows].tolist(), dataset.row[rows].tolist(), strict=True)
        places = [Place(shard, row) for shard, row in lie]
        sound = [number for number, place in enumerate(places) if not self.faults.bars(place)]
        return [places[number] for number in sound], [int(epochs[number]) for number in sound]

    def records(self, places: list[Place]) -> list[Record]:
        """Decoded by this one thread, for Python runs no two; the system may read ahead of it.

        Unreadable where one is damaged.
        """
        with Reader(self.tars) as reader:
            for place in places:  # what fails here fails again below, and is counted there
                attempt(lambda at: reader.announce(self._json(at.shard), at.row), place)
            payloads = all_read(
                attempt(lambda at: reader.payload(self._json(at.shard), at.row), place) for place in places
            )
        with self.tars.meter.measure("decode"):
            return all_read(map(self._record, places, payloads))

    def _record(self, place: Place, payload: memoryview) -> Record | Fault:
        known = self.shards.vocabulary
        return attempt(lambda at: decode_record(payload, self._json(at.shard), at.row, known), place)

    def _usable_by_any(self, text: Text) -> bool:
        return any(need.usable(text) for need in self.needs)

    def _open_json(self, shard: int) -> Member:
        known = self.shards.shards[shard]
        return Member(known.path, known.index, "json")

    def _texts(self, record: Record, key: str, epoch: int) -> list[tuple[Text, int]]:
        """Those that are shown in an epoch, and how often each was before."""
        usable = list(filter(self._usable, record.texts))
        take = self.texts_per_image or len(usable)
        rows = choose_texts(self.seed, key, epoch, len(usable), take)
        return list(zip((usable[row] for row in rows), turns(epoch, len(usable), take), strict=True))

    def _reword(self, chosen: Sequence[Chosen], keys: Sequence[str], epochs: Sequence[int]) -> None:
        """Texts as they are shown; those with false texts beside them keep their words, which would tell."""
        for entry in chosen if self._change else ():
            assert self._change is not None
            text, plain = entry.text, self._change.plain(entry.text)
            if not (entry.swapped or entry.near or text.negatives):
                entry.text = self._change.shown(text, keys[entry.picture], epochs[entry.picture])
                self.reworded += entry.text is not text
            entry.plain = None if plain is entry.text else plain

    def _chosen(self, text: Text, number: int, anchor: Place, turn: int) -> Chosen:
        """The text with the pictures that it names, where a task wants them."""
        if not self._has_target(text):
            return Chosen(text, number, turn=turn)
        members = [found for found in self._find(anchor, text.members) if found and found not in self.faults]
        return Chosen(text, number, self._target(anchor, text), members, turn=turn)

    def _has_target(self, text: Text) -> bool:
        return self._targets and bool(text.target)

    def _complete(self, text: Text, anchor: Place) -> bool:
        """Whether the target of an edit, if it has one, can be read; and be in a bank, where one is asked."""
        if not self._has_target(text):
            return True
        target = self._target(anchor, text)
        return target not in self.faults and (self._reads_targets or self.shards.has_features(target))

    def _target(self, anchor: Place, text: Text) -> Place:
        (place,) = self._find(anchor, text.target[:1])
        if place is None:
            raise ShardError(
                self.shards.shards[anchor.shard].path,
                f"target {text.target[0]} of {self.key(anchor)} is in none of the given shards",
                fix="give all shards of the split",
            )
        return place

    def _negatives(self, place: Place) -> Negatives:
        """What was mined for a picture; nothing where nothing is asked for."""
        if self.mined is None:
            return Negatives(Near())
        return self.mined.read(self.shards.shards[place.shard], place.row)

    def _barred(self, mined: Sequence[Negatives]) -> set[str]:
        """Keys of the development pictures among all that was mined, where they are barred."""
        if not self._development:
            return set()
        near = [of.pictures for of in mined]
        near += [text.near for of in mined for text in of.texts.values()]
        keys = list({key for those in near for key in those.key})
        names = np.array([key.encode("ascii", "replace") for key in keys], np.bytes_)
        return set(compress(keys, held_out(names, self._development)))

    def _add_false(self, entry: Chosen, mined: Negatives, key: str, barred: set[str]) -> None:
        """Mined and changed texts, for a text of a task that asks for them."""
        asking = [need for need in self.needs if need.usable(entry.text)]
        of = mined, entry.text, self.seed, key, entry.turn
        if self.near_texts and any(need.near for need in asking):
            entry.near = near_texts(*of, self.near_texts, barred)
        if self.swaps and any(need.swaps for need in asking):
            entry.swapped = swaps(*of, self.swaps)

    def _readable(self, neighbours: Sequence[Place | None]) -> list[Place]:
        """Those that are among the given shards and can be read."""
        return [near for near in neighbours if near and near not in self.faults]

    def _count(self, span: Span, found: Neighbours) -> None:
        """The neighbours of a batch, once, however often damage makes it be planned again."""
        if span == self._counted:
            return
        self._counted = span
        for neighbours in found:
            wanted = min(self.negatives, len(neighbours))
            self.wanted += wanted
            self.unresolved += max(0, wanted - sum(near is not None for near in neighbours))
        if self.wanted > ENOUGH and self.unresolved > MAX_UNRESOLVED * self.wanted:
            raise ShardError(
                self.shards.folder,
                "mined negatives lie outside the given shards",
                found=f"{self.unresolved / self.wanted:.0%} unresolved",
                expected=f"at most {MAX_UNRESOLVED:.0%}",
                fix="give all shards of the split",
            )

    def _find(self, anchor: Place, keys: Sequence[str]) -> list[Place | None]:
        """The pictures of these keys in the anchor's dataset, those that are among the given shards."""
        if not keys:
            return []
        dataset = self.shards.shards[anchor.shard].dataset
        if dataset not in self._lookups:
            self._lookups[dataset] = self._lookup(dataset)
        return [found and Place(*found) for found in self._lookups[dataset].find(keys)]

    def _lookup(self, dataset: str) -> Lookup:
        shards = self.shards.shards
        numbers = [number for number, shard in enumerate(shards) if shard.dataset == dataset]
        return Lookup(numbers, [shards[number].index.names for number in numbers])


def _named(places: list[Place], chosen: list[Chosen], near: list[list[Place]]) -> list[Place]:
    """Pictures that targets, image sets and negatives name: each once, anchors left out."""
    named = [entry.target for entry in chosen if entry.target]
    named += [place for entry in chosen for place in entry.members]
    named += [place for neighbours in near for place in neighbours]
    anchors = set(places)
    return [place for place in dict.fromkeys(named) if place not in anchors]
