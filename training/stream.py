"""Shards → batches: plan (which pictures, texts, masks), then read (each feature once, every byte checked).

    shards = open_shards(["data"], columns=["vit", "esam"])
    for batch in Stream(shards, tasks=["vqa"], batch=64, seed=0):
        ...                                   # batch.features["vit"] is [P, N, D] float16

The order is a pure function of the seed and `position`, the rows consumed so far: store that integer,
start again with it, and the same batches follow. Threads change the speed and nothing else.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray

from contract import codec, index
from contract.errors import ShardError
from contract.geometry import affine
from contract.record import Record, Text
from contract.seeds import rng, uniform
from training import collate, masking, order
from training.batch import Batch
from training.collate import Chosen
from training.config import Masking
from training.needs import need
from training.reading import Tars, read_features, read_member, read_record
from training.shards import ShardSet

MAX_UNRESOLVED = 0.05  # share of negatives that may lie outside the given shards


class Place(Struct, frozen=True):
    """A picture among the shards."""

    shard: int
    row: int


class Plan(Struct):
    """Everything about a batch that is decided before a feature is read. Anchors first in `places`."""

    position: int
    places: list[Place]
    epochs: list[int]
    records: list[Record]
    keys: list[str]
    chosen: list[Chosen]
    near: list[list[str]]  # resolved negatives per anchor


class Stream:
    """Batches of one split, in an order that one integer fixes.

    tasks: which texts are taken (training.needs). batch: pictures. texts_per_image: int or None for all.
    stop: position at which to end (None: never); only then can the last batch be short. negatives: K
    mined pictures per text. part: "train" or "development" of the rows, split by `development`.
    """

    def __init__(
        self,
        shards: ShardSet,
        tasks: Sequence[str],
        *,
        batch: int,
        seed: int = 0,
        texts_per_image: int | None = None,
        shuffle: str = "global",
        mask: Masking | None = None,
        max_tokens: int = 64,
        negatives: int = 0,
        position: int = 0,
        stop: int | None = None,
        threads: int = 2,
        ahead: int = 2,
        development: float = 0.0,
        part: str = "train",
    ) -> None:
        self.shards, self.tasks = shards, [need(task) for task in tasks]
        self.batch, self.seed, self.shuffle = batch, seed, shuffle
        self.texts_per_image, self.max_tokens = texts_per_image, max_tokens
        self.mask, self.negatives = mask or Masking(), negatives
        self.position, self.stop = position, stop
        self.threads, self.ahead = threads, ahead
        self.waited = 0.0  # seconds that the consumer stood still for data
        self.wanted = self.unresolved = 0  # negatives asked for, and not among the given shards
        self.truncated = 0  # texts cut at max_tokens
        self._answers = {answer: number for number, answer in enumerate(shards.answers)}
        self._columns = list(shards.features)
        self._tars = Tars()
        self._shard, self._row = self._part(part, development)
        self._lookup: dict[tuple[str, str], Place] = {}

    def __len__(self) -> int:
        """Rows of one epoch: pictures with a usable text and a feature in every column."""
        return len(self._row)

    def __iter__(self) -> Iterator[Batch]:
        if not len(self):
            raise ShardError(self.shards.folder, "no picture has a text for the tasks of this run")
        with ThreadPoolExecutor(self.threads, "stream") as readers, ThreadPoolExecutor(1, "plan") as planner:
            pending: deque[Future[Batch]] = deque()
            starts = self._starts()
            try:
                while True:
                    while len(pending) < self.ahead and (span := next(starts, None)) is not None:
                        pending.append(planner.submit(self._assemble, span[0], span[1], readers))
                    if not pending:
                        return
                    started = time.perf_counter()
                    batch = pending.popleft().result()
                    self.waited += time.perf_counter() - started
                    self.position = batch.position
                    yield batch
            finally:
                for future in pending:
                    future.cancel()

    def close(self) -> None:
        """Close the shards' files."""
        self._tars.close()

    def _part(self, part: str, development: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the training or the development part, told apart by a hash of the key."""
        shard, row = self.shards.eligible({task.counted for task in self.tasks})
        if development == 0.0 and part == "train":
            return shard, row
        held = np.zeros(len(row), np.bool_)
        for number, (s, r) in enumerate(zip(shard, row, strict=True)):
            key = self.shards.shards[s].index.rows["key"][r].decode()
            held[number] = uniform("development", key) < development
        keep = held if part == "development" else ~held
        return shard[keep], row[keep]

    def _starts(self) -> Iterator[tuple[int, int]]:
        """(position, rows) of the batches to come."""
        position = self.position
        while self.stop is None or position < self.stop:
            count = self.batch if self.stop is None else min(self.batch, self.stop - position)
            yield position, count
            position += count

    def _assemble(self, position: int, count: int, readers: ThreadPoolExecutor) -> Batch:
        plan = self._plan(position, count, readers)
        rows = {key: number for number, key in enumerate(plan.keys)}
        wanted = any(task.regions for task in self.tasks)
        self.truncated += sum(len(entry.text.tokens) > self.max_tokens for entry in plan.chosen)
        return Batch(
            position=position + count,
            keys=plan.keys,
            groups=[record.group for record in plan.records],
            features=self._features(plan, readers),
            visible=self._visible(plan),
            **collate.texts(plan.chosen, self._answers, self.max_tokens),
            **collate.regions(plan.chosen, plan.records[:count], wanted, self.max_tokens),
            **collate.targets(plan.chosen, rows),
            **collate.negatives(plan.chosen, plan.near, rows, self.negatives),
        )

    def _plan(self, position: int, count: int, readers: ThreadPoolExecutor) -> Plan:
        chosen_rows, epochs = order.rows_at(self.shuffle, self.seed, position, count, len(self))
        places = [Place(int(self._shard[row]), int(self._row[row])) for row in chosen_rows]
        records = list(readers.map(self._record, places))
        chosen = [
            Chosen(text, number)
            for number, record in enumerate(records)
            for text in self._texts(record, self._key(places[number]), int(epochs[number]))
        ]
        near = [self._near(place) for place in places]
        looked_up = self._looked_up(places, chosen, near)
        return Plan(
            position=position,
            places=places + looked_up,
            epochs=[int(epoch) for epoch in epochs] + [int(epochs[0])] * len(looked_up),
            records=records + list(readers.map(self._record, looked_up)),
            keys=[self._key(place) for place in places + looked_up],
            chosen=chosen,
            near=near,
        )

    def _texts(self, record: Record, key: str, epoch: int) -> list[Text]:
        usable = [text for text in record.texts if any(task.usable(text) for task in self.tasks)]
        take = self.texts_per_image or len(usable)
        return [usable[i] for i in order.choose_texts(self.seed, key, epoch, len(usable), take)]

    def _looked_up(self, places: list[Place], chosen: list[Chosen], near: list[list[str]]) -> list[Place]:
        """Places of the pictures that targets, image sets and negatives name, each once, anchors left out."""
        named = [(anchor, key) for anchor, keys in zip(places, near, strict=True) for key in keys]
        found: dict[Place | None, None] = {}
        for entry in chosen if any(task.targets for task in self.tasks) else ():
            found[self._find(places[entry.picture], entry.text.target[0], required=True)] = None
            named += [(places[entry.picture], key) for key in entry.text.members]
        found.update((self._find(anchor, key), None) for anchor, key in named)
        anchors = set(places)
        return [place for place in found if place and place not in anchors]

    def _near(self, place: Place) -> list[str]:
        """The first K mined neighbours of a picture that are among the given shards."""
        if not self.negatives:
            return []
        shard = self.shards.shards[place.shard]
        path = self.shards.folder.parent / "negatives" / shard.path.name
        mined = index.load(path)
        where = f"{path}: {self._key(place)}.neg.json"
        member = read_member(self._tars, path, mined, place.row, mined.member("neg.json", path))
        keys = codec.decode_negatives(member, where).pictures.key
        there = [key for key in keys if self._find(place, key)]
        self._count_unresolved(min(self.negatives, len(keys)), min(self.negatives, len(there)))
        return there[: self.negatives]

    def _count_unresolved(self, wanted: int, resolved: int) -> None:
        self.wanted += wanted
        self.unresolved += wanted - resolved
        if self.wanted > 1000 and self.unresolved > MAX_UNRESOLVED * self.wanted:
            raise ShardError(
                self.shards.folder,
                "mined negatives lie outside the given shards",
                found=f"{self.unresolved / self.wanted:.0%} unresolved",
                expected=f"at most {MAX_UNRESOLVED:.0%}",
                fix="give all shards of the split",
            )

    def _find(self, anchor: Place, key: str, required: bool = False) -> Place | None:
        """The picture of that key in the anchor's dataset."""
        if not self._lookup:
            for number, shard in enumerate(self.shards.shards):
                self._lookup |= {
                    (shard.dataset, k): Place(number, row) for row, k in enumerate(shard.index.keys())
                }
        place = self._lookup.get((self.shards.shards[anchor.shard].dataset, key))
        if required and place is None:
            raise ShardError(
                self.shards.shards[anchor.shard].path,
                f"target {key} of {self._key(anchor)} is in none of the given shards",
                fix="give all shards of the split",
            )
        return place

    def _key(self, place: Place) -> str:
        key: bytes = self.shards.shards[place.shard].index.rows["key"][place.row]
        return key.decode("ascii")

    def _record(self, place: Place) -> Record:
        shard = self.shards.shards[place.shard]
        return read_record(self._tars, shard.path, shard.index, place.row)

    def _features(self, plan: Plan, readers: ThreadPoolExecutor) -> dict[str, torch.Tensor]:
        """Every column of every picture of the plan, [P, N, D], read side by side."""
        buffers = {
            name: np.zeros((len(plan.places), known.tokens, known.width), known.dtype)
            for name, known in self.shards.features.items()
        }
        jobs = [(name, number) for number in range(len(plan.places)) for name in buffers]
        list(readers.map(lambda job: self._read(plan, buffers[job[0]], *job), jobs))
        return {name: torch.from_numpy(buffer) for name, buffer in buffers.items()}

    def _read(self, plan: Plan, buffer: NDArray[np.float16], name: str, number: int) -> None:
        place = plan.places[number]
        column = self.shards.shards[place.shard].columns[name]
        if int(column.index.rows["flags"][place.row]) & index.ABSENT:
            return  # a looked-up picture that the encoder could not take: invisible, see _visible
        read_features(self._tars, column.path, column.index, place.row, f"{name}.npy", buffer[number])

    def _visible(self, plan: Plan) -> dict[str, torch.Tensor]:
        """The masks [P, N] of every column: one draw per picture, projected onto each grid."""
        if not self._columns:
            return {}
        lattice = self.shards.features[self._columns[0]].grid
        rows: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in self._columns}
        for place, epoch, record, key in zip(plan.places, plan.epochs, plan.records, plan.keys, strict=True):
            generator = rng(self.seed, "mask", epoch, key)
            drawn = masking.draw(self.mask.kind, generator, lattice, self.mask.ratio)
            for name, known in self.shards.features.items():
                place_in = affine(known.transform, record.width, record.height)
                tokens = masking.project(drawn, lattice, place_in, known.grid, known.cls)
                rows[name].append(tokens & ~self._absent(place, name))
        return {name: torch.from_numpy(np.stack(masks)) for name, masks in rows.items()}

    def _absent(self, place: Place, name: str) -> np.bool_:
        flags = self.shards.shards[place.shard].columns[name].index.rows["flags"][place.row]
        return np.bool_(int(flags) & index.ABSENT)
