"""Shards → batches: plan (which pictures, texts, masks), then read (each feature once, every byte checked).

    shards = open_shards(["data"], columns=["vit", "esam"])
    for batch in Stream(shards, tasks=["vqa"], batch=64, seed=0):
        ...                                   # batch.tokens_of("vit") is [P, N, D]

The order is a pure function of the seed and `position`, the rows consumed so far: store that integer,
start again with it, and the same batches follow. Threads change the speed and nothing else.
"""

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import Any

import torch
from msgspec import structs
from tokenizers import Tokenizer

from contract.errors import ParamsError, ShardError
from training.batch import Batch
from training.batching import collate, limits
from training.batching.collate import Chosen
from training.batching.columns import Columns
from training.batching.eligible import Eligible, eligible, weigh
from training.batching.emptiness import Emptiness
from training.batching.faults import Faults, Unreadable
from training.batching.garbage import collecting_seldom
from training.batching.mixture import Span, endless, one_pass, shared, whole_epoch
from training.batching.needs import NEEDS, Need, need
from training.batching.plan import Change, Plan, Planner
from training.batching.tokenising import tokenised
from training.batching.transfer import Batches, Transfer
from training.batching.visibility import Visibility
from training.config import Masking
from training.reading.meter import Meter
from training.reading.tars import Tars
from training.schedule import value_at
from training.shards import ShardSet


class Stream:
    """Batches of one split, in an order that one integer fixes.

    tasks: which texts are taken: names (batching/needs.py), or names with needs of one's own. batch:
    pictures. rows: the pictures to take, instead of all that have a usable text. texts_per_image: int, or
    None: all. epochs: of the whole run, for a masking ratio that changes on the way.
    stop: position at which to end (None: never); only then are the datasets taken one after another, and the
    last batch of each can be short. shuffle: global, window (of `window` shards) or none. datasets: the
    weights of those that take turns, by default an epoch of each in the same time. negatives: K mined
    pictures per text; text_negatives: at most, of those that its dataset gives; swaps: at most, of
    changed texts that the annotations make false; near_texts: at most, of those mined from other
    pictures. named: the boxes of what texts name are told. part: "train" or "development" of the rows,
    split by `development`; "train" takes no mined picture of the other part and no text of one,
    "development" what was mined from either, for its own share holds little. on_error: `stop` or `skip` at
    a picture that cannot be read, of which `max_skipped` are left out in a whole run; skipped: those that
    were before, as `left_out` gives them.
    change: of each text before it is shown. tokenizer: in the place of that of the shards. rank, world:
    this process among those that share the batches: it takes every `world`-th.
    """

    def __init__(
        self,
        shards: ShardSet,
        tasks: Sequence[str] | Mapping[str, Need],
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
        tokenizer: Tokenizer | None = None,
        negatives: int = 0,
        text_negatives: int = 0,
        swaps: int = 0,
        near_texts: int = 0,
        named: bool = False,
        position: int = 0,
        stop: int | None = None,
        threads: int = 2,
        ahead: int = 2,
        development: float = 0.0,
        part: str = "train",
        on_error: str = "stop",
        max_skipped: int = 100,
        skipped: Iterable[str] = (),
        change: Change | None = None,
        rows: list[Eligible] | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        limits.within(1, batch=batch, texts_per_image=texts_per_image, max_tokens=max_tokens, window=window)
        limits.within(1, threads=threads, ahead=ahead, world=world)
        limits.within(1, **{f"datasets.{name}": weight for name, weight in (datasets or {}).items()})
        limits.within(0, negatives=negatives, text_negatives=text_negatives)
        limits.within(0, swaps=swaps, near_texts=near_texts)
        limits.within(0, position=position, stop=stop, max_skipped=max_skipped)
        limits.within(0, 1, development=development)
        limits.within(0, world - 1, rank=rank)
        limits.above(0, epochs=epochs)
        self.shards = shards
        self.needs = dict(tasks) if isinstance(tasks, Mapping) else {task: need(task) for task in tasks}
        if not self.needs:
            raise ParamsError("tasks", "names none", expected=f"any of {', '.join(NEEDS)}")
        self.batch, self.seed, self.max_tokens = batch, seed, max_tokens
        self.mask, self.epochs, self.negatives = mask or Masking(), epochs, negatives
        self.false_texts = {"neg_text": text_negatives, "swapped": swaps, "near_text": near_texts}
        self.named = named
        self.position, self.stop = position, stop  # position: of all processes, once each had its turn
        self.rank, self.world = rank, world
        self.threads, self.ahead = threads, ahead
        self.waited = 0.0  # seconds that the consumer stood still for data
        self.tokenizer = tokenizer
        self.truncated = 0  # texts cut at max_tokens
        self._answers = {answer: number for number, answer in enumerate(shards.answers)}
        self._tars = Tars()
        self.faults = Faults(on_error, max_skipped, skipped)
        self._columns = Columns(shards, self._tars, threads)
        self._visibility = Visibility(shards.features, self.mask.kind, seed)
        counted = {need.counted for need in self.needs.values() if need.counted}
        found = eligible(shards, counted, part, development) if rows is None else rows
        self.datasets, self.weights = weigh(found, batch, datasets or {}, part)
        self.planner = Planner(
            shards,
            list(self.needs.values()),
            self._tars,
            seed=seed,
            shuffle=shuffle,
            window=window,
            texts_per_image=texts_per_image,
            negatives=negatives,
            swaps=swaps,
            near_texts=near_texts,
            development=development if part == "train" else 0.0,
            datasets=self.datasets,
            faults=self.faults,
            change=change,
        )

    def __len__(self) -> int:
        """Pictures with a usable text and a feature in every column, of all datasets that take part."""
        return sum(map(len, self.datasets))

    def __iter__(self) -> Generator[Batch, None, None]:
        return self.on(torch.device("cpu"))

    def on(self, device: torch.device) -> Generator[Batch, None, None]:
        """The batches on a device; to a CUDA device each is copied while the step works on the one before.

        ShardError where nothing can be read. Of a single pass that processes share, one that has read nothing
        ends without: it cannot tell of the others, which would wait for it.
        """
        emptiness = self.emptiness(of=self.world)
        with closing(self.turns(device)) as turns:
            for end, batch in turns:
                if batch is not None:
                    yield batch
                if emptiness.everywhere(end, batch is None) and (self.world == 1 or self.stop is None):
                    raise self.unreadable(self._reach())

    def turns(self, device: torch.device) -> Batches:
        """(position, batch) of every turn of this process, also of one of which nothing can be read: None.

        The position is that of all processes, once each had its turn.
        """
        with closing(self._moved(device)) as batches:
            while (turn := self._next(batches)) is not None:
                self.position, batch = turn
                yield self.position, batch

    def emptiness(self, of: int = 1) -> Emptiness:
        """From here on, of all processes, or of every `of`-th turn as far as one of them can tell.

        A single pass is empty where all of it is, or so many rows that a whole epoch lies among them; but not
        for its rest alone, from wherever it is taken up again.
        """
        rows = [len(dataset) for dataset in self.datasets]
        if self.stop is not None:
            return Emptiness(min(self.stop, 2 * sum(rows)), self.position)
        epoch = whole_epoch(rows, self.weights, self.batch) if rows else 0
        return Emptiness(of * epoch, self.position)

    def _next(self, batches: Batches) -> tuple[int, Batch | None] | None:
        started = time.perf_counter()
        turn = next(batches, None)
        self.waited += time.perf_counter() - started
        return turn

    def _moved(self, device: torch.device) -> Batches:
        if device.type != "cuda":
            return self._batches()
        if not self.mask.drops:
            self._columns.pin()
        return Transfer(device, self.meter, packed=self.mask.drops).ahead(self._batches())

    def _batches(self) -> Batches:
        if not len(self):
            takes = "; ".join(need.takes for need in self.needs.values())
            raise ShardError(self.shards.folder, "no picture has a text for these tasks", expected=takes)
        with (
            closing(self),
            ThreadPoolExecutor(self.threads, "columns") as columns,
            ThreadPoolExecutor(1, "plan") as planner,
            collecting_seldom(),
        ):
            begun = (
                (end, planner.submit(self._assemble, span, columns))
                for span, end in shared(self.spans(), self.rank, self.world)
            )
            pending = deque(islice(begun, self.ahead))
            try:
                while pending:
                    end, assembled = pending.popleft()
                    pending.extend(islice(begun, 1))
                    yield end, assembled.result()
            finally:
                for _, assembled in pending:
                    assembled.cancel()

    def _reach(self) -> str:
        """Of what this process can tell that it cannot be read, where that is not everything."""
        if self.world > 1:
            return f" by process {self.rank}"
        return f" up to position {self.position}" if self.stop is not None else ""

    def unreadable(self, reach: str = "") -> ShardError:
        """What to raise where there is nothing left to read. reach: of whom, or how far, if not of all."""
        return ShardError(
            self.shards.folder,
            f"nothing of {', '.join(dataset.dataset for dataset in self.datasets)} can be read{reach}",
            fix="fetch or rebuild the shards; on_error: stop says what is wrong with the first picture",
        )

    def close(self) -> None:
        """Close the shards' files; they are opened again when they are read again."""
        self._tars.close()

    def left_out(self) -> dict[str, str]:
        """The pictures that the batches so far had to do without: by name → why, "" if known before.

        The name is "shard:row", and ends in ":anchor" where it is only never an anchor.
        """
        return self.faults.skipped(self.position)

    @property
    def meter(self) -> Meter:
        """Where the readers' time went."""
        return self._tars.meter

    def spans(self) -> Iterator[Span]:
        """The batches to come, of all processes."""
        if self.stop is None:
            return endless(self.weights, self.batch, self.position)
        return one_pass([len(dataset) for dataset in self.datasets], self.batch, self.position, self.stop)

    def _assemble(self, span: Span, columns: ThreadPoolExecutor) -> Batch | None:
        """The batch of a span, planned again for as long as pictures of it turn out to be damaged.

        What is left out depends on the files alone, so the order of the rest is the same from any start.
        None: nothing was left. Planning and reading take turns: a planner beside the readers would hold
        Python while they wait for it, and their bytes leave the processor's cache before they are hashed.
        """
        while True:
            try:
                plan = self.planner.plan(span)
                return self._batch(plan, span.end, columns) if plan.anchors else None
            except Unreadable as found:
                self.faults.add(found.faults, span.end)

    def _batch(self, plan: Plan, position: int, columns: ThreadPoolExecutor) -> Batch:
        with self.meter.measure("assemble"):
            fields = self._assembled(plan, position)
        return Batch(**fields, **self._columns.read(plan.places, columns))

    def _assembled(self, plan: Plan, position: int) -> dict[str, Any]:
        """All of a batch but its features."""
        rows, dataset = plan.rows, self.datasets[plan.dataset].dataset
        wanted = self.named or any(need.regions for need in self.needs.values())
        chosen, false = collate.with_negatives(plan.chosen, self.false_texts)
        if self.tokenizer:
            chosen = [_in_tokens_of(self.tokenizer, entry) for entry in chosen]
        self.truncated += sum(len(entry.text.tokens) > self.max_tokens for entry in chosen)
        return dict(
            position=position,
            progress=self._progress(position),
            dataset=dataset,
            keys=plan.keys,
            groups=[record.group for record in plan.records],
            **self._visibility.of(plan, self._ratio(position), self._columns.absent),
            place=collate.places(plan.records, self.shards.features),
            **collate.texts(chosen, self._answers, self.max_tokens),
            **collate.regions(chosen, plan.records[: plan.anchors], wanted, self.max_tokens),
            **collate.named(chosen, plan.records[: plan.anchors], self.named),
            rows=collate.rows(chosen, self.needs),
            **collate.targets(chosen, rows, plan.keys, dataset),
            **collate.negatives(chosen, plan.near, rows, self.negatives),
            **false,
        )

    def _progress(self, position: int) -> float:
        return min(1.0, position / (self.epochs * len(self)))

    def _ratio(self, position: int) -> float:
        """The share that is hidden in the batch before a position."""
        return value_at(self.mask.ratio, self.mask.ratio_end, self._progress(position))


def _in_tokens_of(tokenizer: Tokenizer, entry: Chosen) -> Chosen:
    plain = entry.plain and tokenised(entry.plain, tokenizer)
    return structs.replace(entry, text=tokenised(entry.text, tokenizer), plain=plain)
