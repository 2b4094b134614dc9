"""Splits of each dataset, and the proof that training and evaluation share no picture."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import polars as pl
from msgspec import Struct

TRAIN = "train"
IDENTITIES = ("group", "sha256")  # by which no evaluation picture may be a training picture
LEAKAGE = Path("images/leakage.json")


class Split(Struct):
    """What one split of one dataset holds. groups: photographs, whatever their copies."""

    dataset: str
    split: str
    pictures: int
    groups: int
    texts: int


class Shared(Struct):
    """Pairs of a training and an evaluation picture that are one; `pictures`: the training ones in them."""

    pairs: int
    pictures: int


class Leakage(Struct):
    """images/leakage.json, by kind of evidence: among the declared pictures, and among the kept ones."""

    declared: dict[str, Shared]
    kept: dict[str, Shared]


def splits(catalogue: pl.DataFrame, texts: Mapping[str, pl.DataFrame]) -> list[Split]:
    """Datasets in the order of params.yaml, train first. texts: their `picture`, per dataset."""
    rows = []
    for name, table in texts.items():
        pictures = catalogue.filter(dataset=name)
        placed = table.join(pictures.select("picture", "split"), on="picture")
        for split in sorted(pictures["split"].unique(), key=lambda split: (split != TRAIN, split)):
            held = pictures.filter(split=split)
            asked = placed.filter(split=split)
            rows.append(Split(name, split, len(held), held["group"].n_unique(), len(asked)))
    return rows


def leakage() -> Leakage:
    """What stage images found and left."""
    return msgspec.json.decode(LEAKAGE.read_bytes(), type=Leakage)


def leaks(catalogue: pl.DataFrame, identity: str) -> list[str]:
    """Values of `identity` (group, sha256) that a train and an evaluation split both hold: must be none."""
    trained = pl.col("split") == TRAIN
    mixed = catalogue.group_by(identity).agg(leak=trained.any() & ~trained.all()).filter("leak")
    return sorted(mixed[identity].to_list())
