"""Synthetic shards with a statement on every picture: what itc and itm are trained on in tests."""

from itertools import islice
from pathlib import Path

import synthetic
import synthetic_tasks
import torch
from msgspec import Struct

from contract.record import Near, Record, Text, TextNegatives
from training.batch import Batch
from training.batching.wording import word_ids
from training.shards import open_shards
from training.stream import Stream


def build(folder: Path, train: int = 40, **sizes: int) -> None:
    """Shards as of `synthetic.build`, with texts mined for each statement."""
    synthetic.build(
        folder, change=stated, false=lambda record: mined(int(record.id[1:]), train), train=train, **sizes
    )


def stated(number: int, record: Record) -> Record:
    """The record with the answers to its questions as a statement."""
    words = said(record)
    record.texts.append(
        Text(id=f"{number}-where", role="statement", text=words, tokens=synthetic_tasks.tokens(words))
    )
    return record


def said(record: Record) -> str:
    """A picture's statement."""
    return " ".join(text.answer or "" for text in record.texts if text.role == "question")


def mined(number: int, train: int) -> dict[str, TextNegatives]:
    """Statements of later training pictures that say something else; the last pictures have none."""
    own = said(synthetic.picture(number))
    others = [other for other in range(number + 1, train) if said(synthetic.picture(other)) != own][:3]
    return {f"{number}-where": TextNegatives(near(others))}


def near(others: list[int]) -> Near:
    """The statements of these pictures as what is near a text."""
    words = [said(synthetic.picture(other)) for other in others]
    return Near(
        key=[synthetic.key(other) for other in others],
        text=[f"{other}-where" for other in others],
        score=[1 - 0.1 * place for place in range(len(others))],
        content=words,
        tokens=[synthetic_tasks.tokens(said) for said in words],
    )


class Always(Struct):
    """A change of every text into one."""

    text: Text

    def shown(self, _text: Text, _key: str, _epoch: int) -> Text:
        """That text."""
        return self.text

    def plain(self, _text: Text) -> Text:
        """The same."""
        return self.text


def batches(folder: Path, count: int, size: int, negatives: int = 0, near_texts: int = 0) -> list[Batch]:
    """The first batches of the training shards."""
    shards = open_shards([str(folder / "data")], columns=["vit", "esam"])
    stream = Stream(shards, ["itc", "itm"], batch=size, negatives=negatives, near_texts=near_texts)
    return list(islice(stream, count))


def unlike(batch: Batch) -> Batch:
    """The batch with texts of words that differ from each other, so that every other pair is judged."""
    batch.tokens = torch.arange(batch.tokens.numel()).reshape(batch.tokens.shape) % len(synthetic.WORDS)
    batch.words = word_ids(batch.tokens, batch.token_mask)
    return batch
