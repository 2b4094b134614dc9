"""What each feature column is, whom it holds, and what its numbers look like."""

from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from contract import index, manifest
from contract.index import ABSENT
from contract.manifest import FeatureManifest, WeightsFacts


class Spread(Struct):
    """Of all tokens of a column."""

    mean: float
    max: float
    min: float = 0.0


class Channels(Struct):
    """Of a column's channels. worst: the number of the one with the greatest."""

    median: float
    max: float
    worst: int


class Error(Struct):
    """What storing costs, relative to the values: per token and per channel."""

    token: Spread
    channel: Channels


class Statistics(Struct):
    """statistics.json of a column.

    dead: channels that never change. duplicates: pictures whose features are those of another.
    """

    pictures: int
    tokens: int
    norm: Spread
    dead: list[int]
    duplicates: int
    error: dict[str, Error]


class Column(Struct):
    """One encoder. pictures, absent: by dataset; an absent picture keeps its key and has no tokens."""

    encoder: str
    architecture: str
    model: str
    weights: WeightsFacts
    transform: str
    output: str
    size: int
    grid: int
    cls: bool
    tokens: int
    width: int
    dtype: str
    pictures: dict[str, int]
    absent: dict[str, int]
    statistics: Statistics

    @property
    def random(self) -> bool:
        """Whether the weights were drawn and not learned."""
        return self.weights.source == "random"


def column(name: str) -> Column:
    """The column features/<name>."""
    folder = Path("features", name)
    facts = manifest.load(folder, FeatureManifest)
    pictures: Counter[str] = Counter()
    absent: Counter[str] = Counter()
    for shard, held in facts.shards.items():
        flags = index.load(folder / f"{shard}.tar").rows["flags"]
        pictures[held.dataset] += held.samples
        absent[held.dataset] += int(np.count_nonzero(flags & ABSENT))
    same = {field: getattr(facts, field) for field in Column.__struct_fields__ if hasattr(facts, field)}
    statistics = msgspec.json.decode((folder / "statistics.json").read_bytes(), type=Statistics)
    return Column(**same, pictures=pictures, absent=absent, statistics=statistics)
