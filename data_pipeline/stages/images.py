"""Pictures of all datasets → images/{catalogue,findings}.parquet: identity, splits, keys, shards.

Evaluation wins: a training copy of a picture that an evaluation split of any dataset holds is rejected.
A picture without an official split takes the official split of its group, else one by a hash of the group.
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import polars as pl

from contract import params
from contract.errors import ParamsError
from contract.files import atomic_path
from data_pipeline.frames import findings_frame, read_table, reasons, rejected, write_findings, write_table
from data_pipeline.pictures import placement
from data_pipeline.pictures.identity import THUMB_BYTES, groups, look_alikes
from data_pipeline.pictures.placement import TRAIN
from data_pipeline.tables import Account
from data_pipeline.validation.rules import Rule, Table, apply

FILE_SIZE = {"width": "file_width", "height": "file_height"}  # beside the declared ones
COLUMNS = (
    *("dataset", "picture", "key", "path", "drop", "split", "shard"),
    *("width", "height", "sha256", "group", "format", "mode", "generated"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(args: argparse.Namespace) -> None:
    settings = params.load(args.params)
    declared = pl.concat([declared_pictures(name) for name in settings.datasets])
    catalogue, findings, account = build_catalogue(declared, settings.datasets)
    with atomic_path(Path("images")) as place:
        place.mkdir()
        write_table(place / "catalogue.parquet", catalogue)
        write_findings(place, findings)
        account.write(place)
    shards = catalogue["shard"].n_unique()
    print(f"images: {account.summary()} in {catalogue['group'].n_unique():,} groups, {shards} shards")
    print(f"images: {reasons(findings)}")


def declared_pictures(name: str) -> pl.DataFrame:
    """What a dataset declares, with what the scan found; sha256 is null where the scan rejected the file."""
    scanned = read_table(Path("scan", name), "pictures").rename(FILE_SIZE)
    declared = read_table(Path("read", name), "images")
    same = ["picture", "drop", "split"]
    joined = declared.join(scanned.unique(same), on=same, how="left", maintain_order="left")
    return joined.insert_column(0, pl.lit(name).alias("dataset"))


def build_catalogue(
    declared: pl.DataFrame, datasets: Mapping[str, params.Dataset]
) -> tuple[pl.DataFrame, pl.DataFrame, Account]:
    """(catalogue sorted by dataset, split, shard and key; findings; accounts) of all declared pictures."""
    grouped = declared.with_columns(group=_group_names(declared))
    grouped = grouped.with_columns(split=_splits(grouped, datasets))
    judged = grouped.with_columns(evaluation=(pl.col("split") != TRAIN).any().over("group"))
    scanned = judged.filter(pl.col("sha256").is_not_null())
    kept, findings = _judge(scanned)
    account = Account()
    account.add("images", len(scanned), len(kept), rejected(findings))
    return _placed(kept, datasets), findings, account


def _group_names(declared: pl.DataFrame) -> pl.Series:
    """The first source id of the earliest member, in the order of params.yaml, drops and rows."""
    ids = declared["source_ids"].to_list()
    own = (f"{dataset}:{picture}" for dataset, picture in declared.select("dataset", "picture").iter_rows())
    names = [row[0] if row else name for row, name in zip(ids, own, strict=True)]
    keys = [
        [*row, name, *([f"sha256:{digest}"] if digest else [])]
        for row, name, digest in zip(ids, names, declared["sha256"], strict=True)
    ]
    return pl.Series([names[first] for first in groups(keys, _look_alikes(declared))], dtype=pl.String)


def _look_alikes(declared: pl.DataFrame) -> Iterator[tuple[int, int]]:
    """Pairs of rows that show the same picture in another encoding."""
    scanned = declared.with_row_index("row").filter(pl.col("sha256").is_not_null())
    thumbs = np.frombuffer(b"".join(scanned["thumb"].to_list()), np.uint8).reshape(len(scanned), THUMB_BYTES)
    rows = scanned["row"].to_list()
    return ((rows[a], rows[b]) for a, b in look_alikes(scanned["phash"].to_numpy(), thumbs))


def _splits(grouped: pl.DataFrame, datasets: Mapping[str, params.Dataset]) -> pl.Series:
    """The official split; else that of the group (evaluation before train); else one by hash."""
    official: dict[str, str] = {}
    for group, split in grouped.select("group", "split").iter_rows():
        if split and official.get(group, TRAIN) == TRAIN:
            official[group] = split
    splits = [
        split or official.get(group) or _own_split(dataset, group, datasets[dataset].splits)
        for dataset, group, split in grouped.select("dataset", "group", "split").iter_rows()
    ]
    return pl.Series(splits, dtype=pl.String)


def _own_split(dataset: str, group: str, shares: Mapping[str, float]) -> str:
    if not shares:
        raise ParamsError(
            f"params.yaml: datasets.{dataset}",
            "has pictures without an official split and no `splits`",
            fix="add `splits: {train: 0.9, val: 0.1}`",
        )
    return placement.own_split(group, shares)


def _judge(scanned: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One row per picture of a dataset, and no training row that an evaluation split holds."""
    evaluation_first = scanned.sort(pl.col("split") == TRAIN, maintain_order=True)
    repeated = pl.int_range(pl.len()).over("dataset", "picture") > 0
    ranked = evaluation_first.with_columns(repeated=repeated)
    leaks = pl.col("evaluation") & (pl.col("split") == TRAIN)
    rules = [
        Rule("in_evaluation_split", "reject", leaks, pl.col("group")),
        Rule("duplicate_picture", "reject", pl.col("repeated")),
    ]
    nothing = findings_frame().insert_column(0, pl.Series("dataset", [], pl.String))
    kept, found = [], []
    for name in ranked["dataset"].unique(maintain_order=True):
        sound, findings = apply(ranked.filter(dataset=name), _TABLE, rules)
        kept.append(sound)
        found.append(findings.insert_column(0, pl.lit(name).alias("dataset")))
    return pl.concat([ranked.clear(), *kept]), pl.concat([nothing, *found])


_TABLE = Table("images", pl.col("picture"), ["dataset", "picture", "path", "drop", "split", "group"])


def _placed(kept: pl.DataFrame, datasets: Mapping[str, params.Dataset]) -> pl.DataFrame:
    ranges = {name: placement.shard_ranges(dataset.raw) for name, dataset in datasets.items()}
    shards = [
        placement.shard(dataset, picture, split, drop, ranges[dataset])
        for dataset, picture, split, drop in kept.select("dataset", "picture", "split", "drop").iter_rows()
    ]
    keys = [placement.key(picture) for picture in kept["picture"]]
    placed = kept.drop("width", "height").rename({new: old for old, new in FILE_SIZE.items()})
    placed = placed.with_columns(pl.Series("key", keys, pl.String), pl.Series("shard", shards, pl.String))
    return placed.select(COLUMNS).sort("dataset", "split", "shard", "key")
