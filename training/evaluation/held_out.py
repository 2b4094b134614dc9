"""What is scored: the pictures of one split with the texts that a task asks about, and batches of them.

The index counts the texts that can be trained on. An evaluation reads the records themselves, so it also
finds questions whose answer, and edits whose target, is withheld.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from msgspec import Struct

from contract.index import ABSENT
from contract.record import Record, Text
from contract.seeds import rng
from training.batch import Batch
from training.batching.eligible import Eligible
from training.batching.needs import Need
from training.batching.tokenising import tokenised
from training.evaluation.progress import track
from training.model.model import FusionModel
from training.reading.members import Member, Reader
from training.reading.tars import Tars
from training.run import Run, text_of
from training.shards import Place, Shard, ShardSet
from training.stream import Stream
from training.trunk import pretrained_text

SWAPS = 16  # changed texts of a text, at most

Usable = Callable[[Text], bool]


class Picture(Struct):
    """A picture of the split. id: its name in the dataset; texts: those that are asked about; absent: an
    encoder of the run could not take it.
    """

    place: Place
    key: str
    id: str
    texts: list[Text]
    absent: bool


class HeldOut(Struct):
    """A run and the split that it is scored on. batch: pictures at a time; where: the model is there."""

    run: Run
    model: FusionModel
    shards: ShardSet
    batch: int
    where: torch.device

    def pictures(self, usable: Usable) -> dict[str, list[Picture]]:
        """Dataset → all its pictures, in the order of the shards, for each dataset that has a usable text."""
        found = self.every_picture(usable)
        return {name: some for name, some in found.items() if any(picture.texts for picture in some)}

    def every_picture(self, usable: Usable = lambda _text: False) -> dict[str, list[Picture]]:
        """The same for every dataset."""
        found: dict[str, list[Picture]] = {}
        for number, shard in enumerate(self.shards.shards):
            found.setdefault(shard.dataset, []).extend(
                _picture(Place(number, row), shard, record, usable)
                for row, record in enumerate(records(shard))
            )
        return found

    def noted(self, pictures: Sequence[Picture]) -> dict[str, int]:
        """Pictures that an encoder could not take, and texts of the others that the model reads in part."""
        cut = sum(len(text.tokens) > self.max_tokens for text in self.shown(pictures))
        return {"without_features": sum(picture.absent for picture in pictures), "texts_cut": cut}

    @property
    def max_tokens(self) -> int:
        """Of a text, those that the model reads."""
        return self.model.trunk.text.max_tokens

    def shown(self, pictures: Sequence[Picture]) -> list[Text]:
        """The texts of those that can be looked at, in the tokens that the model takes."""
        words = pretrained_text.tokenizer(text_of(self.run))
        texts = [text for picture in asked(pictures) for text in picture.texts]
        return [tokenised(text, words) for text in texts] if words else texts

    def batches(
        self, task: str, dataset: str, pictures: Sequence[Picture], need: Need, size: int = 0, **options: Any
    ) -> Iterator[Batch]:
        """These pictures of a dataset, in this order, with their usable texts as those of the task.

        size: pictures at a time, by default `batch`. options: of the Stream.
        """
        if not pictures:
            return
        stream = Stream(
            self.shards,
            {task: need},
            rows=[_rows(dataset, pictures)],
            batch=size or self.batch,
            shuffle="none",
            stop=len(pictures),
            tokenizer=pretrained_text.tokenizer(text_of(self.run)),
            **{"max_tokens": self.max_tokens, **options},
        )
        with closing(stream):
            yield from track(stream.on(self.where), len(pictures), f"{task} {dataset}")


def records(shard: Shard) -> Iterator[Record]:
    """The records of a shard, in its order."""
    member = Member(shard.path, shard.index, "json")
    with closing(Tars()) as tars, Reader(tars) as reader:
        for row in range(len(shard.index)):
            yield reader.record(member, row)


def asked(pictures: Sequence[Picture]) -> list[Picture]:
    """Those that have a text and can be looked at."""
    return [picture for picture in pictures if picture.texts and not picture.absent]


def shuffled(pictures: Sequence[Picture], dataset: str) -> list[Picture]:
    """In a random order that is always the same."""
    order = rng(0, "evaluate", dataset).permutation(len(pictures))
    return [pictures[number] for number in order]


def ring(pictures: Sequence[Picture], batch: int) -> list[Picture]:
    """The pictures in blocks of `batch`, each followed by the picture after it; the first follows the last.

    So whatever the batch, the other picture of each is the same one, and stands right behind it: read it
    `batch + 1` at a time.
    """
    count = len(pictures)
    return [
        pictures[(first + step) % count]
        for first in range(0, count, batch)
        for step in range(min(batch, count - first) + 1)
    ]


def _picture(place: Place, shard: Shard, record: Record, usable: Usable) -> Picture:
    columns = shard.columns.values()
    absent = any(int(column.index.rows["flags"][place.row]) & ABSENT for column in columns)
    texts = [text for text in record.texts if usable(text)]
    return Picture(place, shard.index.key(place.row), record.id, texts, absent)


def _rows(dataset: str, pictures: Sequence[Picture]) -> Eligible:
    shard = np.array([picture.place.shard for picture in pictures], np.uint32)
    row = np.array([picture.place.row for picture in pictures], np.uint32)
    return Eligible(dataset, shard, row, [len(pictures)])
