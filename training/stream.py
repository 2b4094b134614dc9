"""Shards → batches: plan (which pictures, texts, masks), then read (each feature once, every byte checked).

    shards = open_shards(["data"], columns=["vit", "esam"])
    for batch in Stream(shards, tasks=["vqa"], batch=64, seed=0):
        ...                                   # batch.tokens_of("vit") is [P, N, D]

The order is a pure function of the seed and `position`, the rows consumed so far: store that integer,
start again with it, and the same batches follow. Threads change the speed and nothing else.
"""

import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from contract.errors import ShardError
from contract.geometry import affine
from contract.index import ABSENT
from contract.record import Record
from contract.seeds import rng
from training.batch import Batch
from training.batching import collate, masking
from training.batching.columns import Columns
from training.batching.eligible import eligible, weigh
from training.batching.faults import Faults, Unreadable
from training.batching.mixture import Span, endless, one_pass
from training.batching.needs import need
from training.batching.plan import Change, Plan, Planner
from training.config import Masking
from training.reading.meter import Meter
from training.reading.tars import Tars
from training.schedule import value_at
from training.shards import Place, ShardSet


class Stream:
    """Batches of one split, in an order that one integer fixes.

    tasks: which texts are taken (batching/needs.py). batch: pictures. texts_per_image: int, or None: all.
    epochs: of the whole run, for a masking ratio that changes on the way.
    stop: position at which to end (None: never); only then are the datasets taken one after another, and
    the last batch of each can be short. shuffle: global, window (of `window` shards) or none. datasets: the
    weights of those that take turns, by default an epoch of each in the same time. negatives: K mined
    pictures per text; text_negatives: at most, of those that its dataset gives. part: "train" or
    "development" of the rows, split by `development`. on_error: `stop` or `skip` at a picture that cannot be
    read, of which `max_skipped` are left out, see `faults.found`. change: of each text before it is shown.
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
        window: int = 8,
        datasets: Mapping[str, int] | None = None,
        mask: Masking | None = None,
        epochs: float = 1,
        max_tokens: int = 64,
        negatives: int = 0,
        text_negatives: int = 0,
        position: int = 0,
        stop: int | None = None,
        threads: int = 2,
        ahead: int = 2,
        development: float = 0.0,
        part: str = "train",
        on_error: str = "stop",
        max_skipped: int = 100,
        change: Change | None = None,
    ) -> None:
        self.shards, self.needs = shards, {task: need(task) for task in tasks}
        self.batch, self.seed, self.max_tokens = batch, seed, max_tokens
        self.mask, self.epochs, self.negatives = mask or Masking(), epochs, negatives
        self.text_negatives = text_negatives
        self.position, self.stop = position, stop
        self.threads, self.ahead = threads, ahead
        self.waited = 0.0  # seconds that the consumer stood still for data
        self.truncated = 0  # texts cut at max_tokens
        self._answers = {answer: number for number, answer in enumerate(shards.answers)}
        self._tars = Tars()
        self.faults = Faults(on_error, max_skipped)
        self._columns = Columns(shards, self._tars, threads)
        self._unmasked = lru_cache(maxsize=4096)(self._all_visible)
        counted = {need.counted for need in self.needs.values() if need.counted}
        found = eligible(shards, counted, part, development)
        self.datasets, self.weights = weigh(found, batch, datasets or {})
        self.planner = Planner(
            shards,
            list(self.needs.values()),
            self._tars,
            seed=seed,
            shuffle=shuffle,
            window=window,
            texts_per_image=texts_per_image,
            negatives=negatives,
            datasets=self.datasets,
            faults=self.faults,
            change=change,
        )

    def __len__(self) -> int:
        """Pictures with a usable text and a feature in every column, of all datasets that take part."""
        return sum(map(len, self.datasets))

    def __iter__(self) -> Generator[Batch, None, None]:
        if not len(self):
            raise ShardError(self.shards.folder, "no picture has a text for the tasks of this run")
        with ThreadPoolExecutor(self.threads, "stream") as readers, ThreadPoolExecutor(1, "plan") as planner:
            pending: deque[Future[Batch | None]] = deque()
            spans = self.spans()
            try:
                while True:
                    while len(pending) < self.ahead and (span := next(spans, None)) is not None:
                        pending.append(planner.submit(self._assemble, span, readers))
                    if not pending:
                        return
                    started = time.perf_counter()
                    batch = pending.popleft().result()
                    self.waited += time.perf_counter() - started
                    if batch is not None:
                        self.position = batch.position
                        yield batch
            finally:
                for future in pending:
                    future.cancel()

    def close(self) -> None:
        """Close the shards' files."""
        self._tars.close()

    @property
    def meter(self) -> Meter:
        """Where the readers' time went."""
        return self._tars.meter

    def spans(self) -> Iterator[Span]:
        """The batches to come."""
        if self.stop is None:
            return endless(self.weights, self.batch, self.position)
        return one_pass([len(dataset) for dataset in self.datasets], self.batch, self.position, self.stop)

    def _assemble(self, span: Span, readers: ThreadPoolExecutor) -> Batch | None:
        """The batch of a span, planned again for as long as pictures of it turn out to be damaged.

        What is left out depends on the files alone, so the order of the rest is the same from any start.
        None: nothing was left.
        """
        while True:
            try:
                plan = self.planner.plan(span, readers)
                return self._batch(plan, span.end, readers) if plan.anchors else None
            except Unreadable as found:
                self.faults.add(found.faults)

    def _batch(self, plan: Plan, position: int, readers: ThreadPoolExecutor) -> Batch:
        columns = self._columns.read(plan.places, readers)
        with self.meter.measure("assemble"):
            return self._assembled(plan, position, columns)

    def _assembled(self, plan: Plan, position: int, columns: dict[str, Any]) -> Batch:
        rows = plan.rows
        wanted = any(need.regions for need in self.needs.values())
        chosen, given = collate.with_negatives(plan.chosen, self.text_negatives)
        self.truncated += sum(len(entry.text.tokens) > self.max_tokens for entry in chosen)
        return Batch(
            position=position,
            progress=self._progress(position),
            keys=plan.keys,
            groups=[record.group for record in plan.records],
            **columns,
            **self._masks(plan),
            place=collate.places(plan.records, self.shards.features),
            **collate.texts(chosen, self._answers, self.max_tokens),
            **collate.regions(chosen, plan.records[: plan.anchors], wanted, self.max_tokens),
            rows=collate.rows(chosen, self.needs),
            **collate.targets(chosen, rows, plan.keys),
            **collate.negatives(chosen, plan.near, rows, self.negatives),
            neg_text=given,
        )

    def _progress(self, position: int) -> float:
        return min(1.0, position / (self.epochs * len(self)))

    def _masks(self, plan: Plan) -> dict[str, Any]:
        """visible and hidden [P, N] of every column: one draw per picture, projected onto each grid."""
        columns = self.shards.features
        lattice = next((known.grid for known in columns.values()), 1)
        visible: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in columns}
        hidden: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in columns}
        for place, epoch, record, key in zip(plan.places, plan.epochs, plan.records, plan.keys, strict=True):
            ratio = self._ratio(epoch, plan.dataset)
            drawn = self._drawn(lattice, ratio, epoch, record, key) if ratio else None
            for name in columns:
                tokens, masked = self._projected(name, lattice, drawn, record)
                there = ~self._absent(place, name)
                visible[name].append(tokens & there)
                hidden[name].append(masked & there)
        return {"visible": _stacked(visible), "hidden": _stacked(hidden)}

    def _epochs(self, dataset: int) -> float:
        """How often a dataset is seen in the whole run: weights give one more of it, another less."""
        share = self.weights[dataset] / sum(self.weights) * len(self) / len(self.datasets[dataset])
        return self.epochs * share

    def _ratio(self, epoch: int, dataset: int) -> float:
        progress = epoch / max(1, self._epochs(dataset) - 1)
        return value_at(self.mask.ratio, self.mask.ratio_end, progress)

    def _projected(
        self, name: str, lattice: int, drawn: NDArray[np.bool_] | None, record: Record
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """A drawn mask on a column's tokens; None hides nothing, and is the same for pictures of one size."""
        if drawn is None:
            return self._unmasked(name, record.width, record.height)
        known = self.shards.features[name]
        into = affine(known.transform, record.width, record.height)
        return masking.project(drawn, lattice, into, known.grid, known.cls)

    def _all_visible(self, name: str, width: int, height: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        known = self.shards.features[name]
        into = affine(known.transform, width, height)
        return masking.project(np.ones(1, np.bool_), 1, into, known.grid, known.cls)

    def _drawn(self, lattice: int, ratio: float, epoch: int, record: Record, key: str) -> NDArray[np.bool_]:
        """The mask of a picture in an epoch, in picture coordinates."""
        boxes = np.array(record.regions.box, np.float64).reshape(-1, 4)
        return masking.draw(self.mask.kind, rng(self.seed, "mask", epoch, key), lattice, ratio, boxes)

    def _absent(self, place: Place, name: str) -> np.bool_:
        flags = self.shards.shards[place.shard].columns[name].index.rows["flags"][place.row]
        return np.bool_(int(flags) & ABSENT)


def _stacked(rows: dict[str, list[NDArray[np.bool_]]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.stack(masks)) for name, masks in rows.items()}
