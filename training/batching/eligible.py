"""The pictures that a run may take: of each dataset, with a usable text and a feature in every column."""

from collections.abc import Iterable, Mapping

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from contract.errors import ParamsError, unknown_name
from contract.index import COUNTED
from contract.seeds import uniforms
from training.shards import ShardSet

PARTS = ("train", "development")


class Eligible(Struct):
    """Rows of one dataset: the shard and row of each; counts: of each of its shards, in that order."""

    dataset: str
    shard: NDArray[np.uint32]
    row: NDArray[np.uint32]
    counts: list[int]

    def __len__(self) -> int:
        return len(self.row)


def eligible(shards: ShardSet, counted: Iterable[str], part: str, development: float) -> list[Eligible]:
    """The rows of "train" or "development" of every dataset; a hash of the key tells the two apart."""
    if part not in PARTS:
        raise unknown_name("part", "part of the rows", part, PARTS)
    wanted = set(counted)
    of: dict[str, list[tuple[int, NDArray[np.uint32]]]] = {}
    for number, shard in enumerate(shards.shards):
        rows = shards.usable(shard, wanted)
        if development or part == "development":
            held = held_out(shard.index.names[rows], development)
            rows = rows[held if part == "development" else ~held]
        of.setdefault(shard.dataset, []).append((number, rows))
    return [_joined(dataset, parts) for dataset, parts in of.items()]


def held_out(keys: NDArray[np.bytes_], development: float) -> NDArray[np.bool_]:
    """Whether the picture of each key is one of the development part, of that share."""
    held: NDArray[np.bool_] = uniforms(keys, "development") < development
    return held


def _joined(dataset: str, parts: list[tuple[int, NDArray[np.uint32]]]) -> Eligible:
    counts = [len(rows) for _, rows in parts]
    numbers = np.array([number for number, _ in parts], np.uint32)
    return Eligible(dataset, np.repeat(numbers, counts), np.concatenate([rows for _, rows in parts]), counts)


def weigh(
    found: list[Eligible], batch: int, weights: Mapping[str, int], part: str
) -> tuple[list[Eligible], list[int]]:
    """The datasets that have rows, and the batches of each in a round: as given, else an epoch of each.

    ParamsError where a named one is not there, or has no row to train on; it may have none held out.
    """
    by_name = {dataset.dataset: dataset for dataset in found}
    for name in weights:
        if name not in by_name:
            raise unknown_name("train.datasets", "dataset", name, by_name)
        if part == "train" and not len(by_name[name]):
            raise ParamsError(
                f"train.datasets.{name}",
                "has no picture with a text for the tasks and a feature in every column",
                fix="leave it out, or choose tasks and columns that it has",
            )
    taken = [dataset for dataset in found if len(dataset) and (not weights or dataset.dataset in weights)]
    return taken, [weights.get(dataset.dataset, -(-len(dataset) // batch)) for dataset in taken]


def texts_of(shards: ShardSet, datasets: Iterable[Eligible], counted: str | None) -> int | None:
    """How many texts of these rows a task can use, by the index; None for a task that takes no text."""
    if counted is None:
        return None
    total, kind = 0, COUNTED.index(counted)
    for dataset in datasets:
        for shard in np.unique(dataset.shard):
            rows = dataset.row[dataset.shard == shard]
            total += int(shards.shards[shard].index.rows["texts"][rows, kind].sum())
    return total
