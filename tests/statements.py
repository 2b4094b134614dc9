"""Synthetic shards with a statement on every picture: what itc and itm are trained on in tests."""

from pathlib import Path

import synthetic
import torch

from contract.record import Record, Text
from training.batch import Batch
from training.shards import open_shards
from training.stream import Stream


def build(folder: Path, **sizes: int) -> None:
    """Shards as of `synthetic.build`."""
    synthetic.build(folder, change=stated, **sizes)


def stated(number: int, record: Record) -> Record:
    """The record with the answers to its questions as a statement."""
    words = [text.answer for text in record.texts]
    tokens = [synthetic.WORDS.index(word) for word in words]
    record.texts.append(Text(id=f"{number}-where", role="statement", text=" ".join(words), tokens=tokens))
    return record


def batches(folder: Path, count: int, size: int, negatives: int = 0) -> list[Batch]:
    """The first batches of the training shards."""
    shards = open_shards([str(folder / "data")], columns=["vit", "esam"])
    found = iter(Stream(shards, ["itc", "itm"], batch=size, negatives=negatives))
    return [next(found) for _ in range(count)]


def unlike(batch: Batch) -> Batch:
    """The batch with texts of words that differ from each other, so that every other pair is judged."""
    batch.tokens = torch.arange(batch.tokens.numel()).reshape(batch.tokens.shape) % len(synthetic.WORDS)
    return batch
