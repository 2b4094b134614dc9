"""Shards → batches: plan (which pictures, texts, masks), then read (each feature once, every byte checked).

    shards = open_shards(["data"], columns=["vit", "esam"])
    for batch in Stream(shards, tasks=["vqa"], batch=64, seed=0):
        ...                                   # batch.tokens_of("vit") is [P, N, D]

The order is a pure function of the seed and `position`, the rows consumed so far: store that integer,
start again with it, and the same batches follow. Threads change the speed and nothing else.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from contract.errors import ShardError
from contract.geometry import affine
from contract.index import ABSENT
from contract.manifest import FeatureManifest
from contract.record import Record
from contract.seeds import rng
from training import collate, masking
from training.batch import Batch
from training.config import Masking
from training.needs import need
from training.plan import Plan, Planner, part_of
from training.reading import Tars, read_array
from training.shards import Place, ShardSet


class Stream:
    """Batches of one split, in an order that one integer fixes.

    tasks: which texts are taken (training.needs). batch: pictures. texts_per_image: int or None for all.
    epochs: of the whole run, for a masking ratio that changes on the way.
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
        epochs: float = 1,
        max_tokens: int = 64,
        negatives: int = 0,
        position: int = 0,
        stop: int | None = None,
        threads: int = 2,
        ahead: int = 2,
        development: float = 0.0,
        part: str = "train",
    ) -> None:
        self.shards, self.needs = shards, {task: need(task) for task in tasks}
        self.batch, self.seed, self.max_tokens = batch, seed, max_tokens
        self.mask, self.epochs, self.negatives = mask or Masking(), epochs, negatives
        self.position, self.stop = position, stop
        self.threads, self.ahead = threads, ahead
        self.waited = 0.0  # seconds that the consumer stood still for data
        self.truncated = 0  # texts cut at max_tokens
        self._answers = {answer: number for number, answer in enumerate(shards.answers)}
        self._tars = Tars()
        self.planner = Planner(
            shards,
            list(self.needs.values()),
            self._tars,
            seed=seed,
            shuffle=shuffle,
            texts_per_image=texts_per_image,
            negatives=negatives,
            rows=part_of(shards, list(self.needs.values()), part, development),
        )

    def __len__(self) -> int:
        """Rows of one epoch: pictures with a usable text and a feature in every column."""
        return len(self.planner)

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

    def _starts(self) -> Iterator[tuple[int, int]]:
        """(position, rows) of the batches to come."""
        position = self.position
        while self.stop is None or position < self.stop:
            count = self.batch if self.stop is None else min(self.batch, self.stop - position)
            yield position, count
            position += count

    def _assemble(self, position: int, count: int, readers: ThreadPoolExecutor) -> Batch:
        plan = self.planner.plan(position, count, readers)
        rows = plan.rows
        wanted = any(need.regions for need in self.needs.values())
        self.truncated += sum(len(entry.text.tokens) > self.max_tokens for entry in plan.chosen)
        return Batch(
            position=position + count,
            keys=plan.keys,
            groups=[record.group for record in plan.records],
            **self._columns(plan, readers),
            **self._masks(plan),
            place=collate.places(plan.records, self.shards.features),
            **collate.texts(plan.chosen, self._answers, self.max_tokens),
            **collate.regions(plan.chosen, plan.records[: plan.anchors], wanted, self.max_tokens),
            rows=collate.rows(plan.chosen, self.needs),
            **collate.targets(plan.chosen, rows),
            **collate.negatives(plan.chosen, plan.near, rows, self.negatives),
        )

    def _columns(self, plan: Plan, readers: ThreadPoolExecutor) -> dict[str, Any]:
        """Every member of every column of every picture of the plan, read side by side."""
        pictures, columns = len(plan.places), self.shards.features
        buffers = {name: _buffers(known, pictures) for name, known in columns.items()}
        jobs = [(name, suffix) for name, members in buffers.items() for suffix in members]
        work = [(*job, number) for number in range(pictures) for job in jobs]
        list(readers.map(lambda job: self._read(plan, buffers[job[0]][job[1]], *job), work))
        arrays = {name: list(map(torch.from_numpy, members.values())) for name, members in buffers.items()}
        return {
            "features": {name: tokens for name, (tokens, *_) in arrays.items()},
            "scales": {name: scales[0] for name, (_, *scales) in arrays.items() if scales},
        }

    def _read(self, plan: Plan, buffer: NDArray[Any], name: str, suffix: str, number: int) -> None:
        place = plan.places[number]
        column = self.shards.shards[place.shard].columns[name]
        if int(column.index.rows["flags"][place.row]) & ABSENT:
            return  # a looked-up picture that the encoder could not take: invisible, see _masks
        read_array(self._tars, column.path, column.index, place.row, suffix, buffer[number])

    def _masks(self, plan: Plan) -> dict[str, Any]:
        """visible and hidden [P, N] of every column: one draw per picture, projected onto each grid."""
        columns = self.shards.features
        lattice = next((known.grid for known in columns.values()), 1)
        visible: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in columns}
        hidden: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in columns}
        for place, epoch, record, key in zip(plan.places, plan.epochs, plan.records, plan.keys, strict=True):
            drawn = self._drawn(lattice, epoch, record, key)
            for name, known in columns.items():
                into = affine(known.transform, record.width, record.height)
                tokens, masked = masking.project(drawn, lattice, into, known.grid, known.cls)
                there = ~self._absent(place, name)
                visible[name].append(tokens & there)
                hidden[name].append(masked & there)
        return {"visible": _stacked(visible), "hidden": _stacked(hidden)}

    def _drawn(self, lattice: int, epoch: int, record: Record, key: str) -> NDArray[np.bool_]:
        """The mask of a picture in an epoch, in picture coordinates."""
        progress = epoch / max(1, self.epochs - 1)
        ratio = masking.ratio_at(self.mask.ratio, self.mask.ratio_end, progress)
        boxes = np.array(record.regions.box, np.float64).reshape(-1, 4)
        return masking.draw(self.mask.kind, rng(self.seed, "mask", epoch, key), lattice, ratio, boxes)

    def _absent(self, place: Place, name: str) -> np.bool_:
        flags = self.shards.shards[place.shard].columns[name].index.rows["flags"][place.row]
        return np.bool_(int(flags) & ABSENT)


def _buffers(column: FeatureManifest, pictures: int) -> dict[str, NDArray[Any]]:
    """Empty arrays for each member of a column: tokens [P, N, D], and the scales [P, N] of int8."""
    tokens = np.zeros((pictures, column.tokens, column.width), column.dtype)
    scales = np.zeros((pictures, column.tokens), np.float32)
    return dict(zip(column.suffixes, (tokens, scales), strict=False))


def _stacked(rows: dict[str, list[NDArray[np.bool_]]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.stack(masks)) for name, masks in rows.items()}
