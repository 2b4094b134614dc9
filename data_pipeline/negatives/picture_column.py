"""One vector per picture of a dataset and split, from a feature column, and its nearest others."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from msgspec import Struct
from numpy.typing import NDArray

from contract import codec
from contract.errors import MismatchError
from contract.manifest import FeatureManifest
from contract.params import Selection
from contract.quantise import dequantise
from contract.record import Near
from data_pipeline.negatives.neighbours import NONE, Found, Rows, Vectors, normalised
from data_pipeline.negatives.selection import order
from data_pipeline.shards import shard_reader

DECIMALS = 4  # of a score


class Pooled(Struct):
    """One picture of a feature tar as one vector [D]."""

    key: str
    shard: str
    absent: bool
    vector: NDArray[np.float32]


class Column(Struct):
    """The pictures of one dataset and split, ascending by key. vectors: [N,D], of length 1 where present."""

    keys: list[str]
    shards: list[str]
    groups: Rows
    present: NDArray[np.bool_]
    vectors: Vectors


def read_column(
    source: Path, features: FeatureManifest, dataset: str, split: str, pictures: pl.DataFrame
) -> Column:
    """One vector per picture of a dataset and split: its CLS token, or the mean of its tokens.

    pictures: their `key` and `group`. MismatchError when the features are not of these pictures.
    """
    groups = dict(sorted(pictures.select("key", "group").iter_rows()))
    row_of = {key: row for row, key in enumerate(groups)}
    numbers = {group: number for number, group in enumerate(sorted(set(groups.values())))}
    column = Column(
        keys=list(groups),
        shards=[""] * len(groups),
        groups=np.array([numbers[group] for group in groups.values()], np.int64),
        present=np.zeros(len(groups), np.bool_),
        vectors=np.zeros((len(groups), features.width), np.float32),
    )
    found = set()
    for picture in _pooled_pictures(source, features, dataset, split):
        found.add(picture.key)
        if picture.key in row_of:
            _fill(column, row_of[picture.key], picture)
    if found != set(groups):
        raise _strangers(source, dataset, split, found, set(groups))
    return column


def _fill(column: Column, row: int, picture: Pooled) -> None:
    column.shards[row], column.present[row] = picture.shard, not picture.absent
    column.vectors[row] = normalised(picture.vector[None])


def _pooled_pictures(source: Path, features: FeatureManifest, dataset: str, split: str) -> Iterator[Pooled]:
    nothing = np.zeros(features.width, np.float32)
    for shard in shards_of(features, dataset, split):
        for key, tokens_ND, absent in _tokens(source / f"{shard}.tar", features):
            yield Pooled(key, shard, absent, nothing if absent else pooled(tokens_ND, features.cls))


def _tokens(path: Path, features: FeatureManifest) -> Iterator[tuple[str, NDArray[Any], bool]]:
    """(key, tokens [N,D], absent), tokens and scales of an int8 column multiplied."""
    members = [shard_reader.members(path, suffix) for suffix in features.suffixes]
    for found in zip(*members, strict=True):
        key, _, absent = found[0]
        parts = [codec.decode_array(content, f"{path}/{key}") for _, content, _ in found]
        yield key, dequantise(parts[0], parts[1]) if len(parts) > 1 else parts[0], absent


def pooled(tokens_ND: NDArray[Any], cls: bool) -> NDArray[np.float32]:
    """[D] float32: the CLS token where the column has one, else the mean token."""
    vector_D = tokens_ND[0] if cls else tokens_ND.mean(0, dtype=np.float64)
    return np.asarray(vector_D, np.float32)


def shards_of(features: FeatureManifest, dataset: str, split: str) -> list[str]:
    """The shards of a dataset and split, empty ones too."""
    return sorted(
        name for name, shard in features.shards.items() if (shard.dataset, shard.split) == (dataset, split)
    )


def near(
    column: Column, found: Found, settings: Selection, random: np.random.Generator
) -> tuple[dict[str, Near], Counter[str]]:
    """Key → its negatives, and what the options passed by. found: of the present pictures, in their order.

    A picture without features has none and is nobody's.
    """
    rows = np.flatnonzero(column.present)
    columns_QK, left_Q, passed = order(found.cosines, found.rows != NONE, settings, random)
    mined = {key: Near() for key in column.keys}
    for query, (columns, left) in enumerate(zip(columns_QK, left_Q, strict=True)):
        taken = np.sort(columns[: min(left, settings.num_negatives)])  # nearest first
        names = [column.keys[row] for row in rows[found.rows[query, taken]]]
        mined[column.keys[rows[query]]] = as_near(names, [""] * len(names), found.cosines[query, taken])
    return mined, passed


def as_near(keys: list[str], texts: list[str], scores: NDArray[np.float64]) -> Near:
    """Parallel lists, scores rounded."""
    plain = [round(score, DECIMALS) + 0.0 for score in scores.tolist()]  # + 0.0: no "-0.0" in the file
    return Near(key=keys, text=texts, score=plain)


def _strangers(source: Path, dataset: str, split: str, found: set[str], expected: set[str]) -> MismatchError:
    odd = sorted(found ^ expected)
    return MismatchError(
        source,
        f"is not of the pictures of {dataset}, {split} in images/catalogue.parquet: {len(odd)} differ",
        found=f"{len(found)} pictures; first difference {odd[0]}",
        expected=f"{len(expected)} pictures",
        fix=f"run: python -m data_pipeline features {source.name}",
    )
