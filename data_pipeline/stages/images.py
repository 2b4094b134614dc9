"""Pictures of all datasets → images/{catalogue,findings}.parquet: identity, splits, keys, shards.

Evaluation wins: a training copy of a picture that an evaluation split of any dataset holds is rejected.
A picture without an official split takes the official split of its unit, else one by a hash of the unit: its
group, with the groups of the pictures that the same texts name. leakage.json counts what was shared before.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import polars as pl

from contract import params
from contract.errors import ParamsError
from contract.files import atomic_path
from data_pipeline.frames import findings_frame, read_table, reasons, rejected, write_findings, write_table
from data_pipeline.pictures import placement
from data_pipeline.pictures.identity import THUMB_BYTES, groups, look_alikes
from data_pipeline.pictures.leakage import Leaks, evidence, leaks
from data_pipeline.pictures.placement import TRAIN
from data_pipeline.tables import Account
from data_pipeline.validation import budgets
from data_pipeline.validation.rules import Rule, Table, apply

FILE_SIZE = {"width": "file_width", "height": "file_height"}  # beside the declared ones
COLUMNS = (
    *("dataset", "picture", "key", "path", "drop", "split", "shard"),
    *("width", "height", "sha256", "group", "format", "mode", "generated"),
)

Leakage = dict[str, Leaks]
NO_LINKS = pl.DataFrame(schema=dict.fromkeys(("dataset", "picture", "other"), pl.String))


def arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(args: argparse.Namespace) -> None:
    settings = params.load(args.params)
    declared = pl.concat([declared_pictures(name) for name in settings.datasets])
    links = pl.concat(
        [NO_LINKS, *(linked_pictures(name, declared) for name in own_splits(settings.datasets))]
    )
    catalogue, findings, account, leakage = build_catalogue(declared, settings.datasets, links)
    with atomic_path(Path("images")) as place:
        place.mkdir()
        write_table(place / "catalogue.parquet", catalogue)
        write_findings(place, findings)
        account.write(place)
        budgets.check(settings.budgets.images, place, "images")
        (place / "leakage.json").write_text(json.dumps(leakage, indent=1) + "\n")
    shards = catalogue["shard"].n_unique()
    print(f"images: {account.summary()} in {catalogue['group'].n_unique():,} groups, {shards} shards")
    print(f"images: {reasons(findings)}")


def own_splits(datasets: Mapping[str, params.Dataset]) -> list[str]:
    """The datasets that may split pictures themselves."""
    return [name for name, dataset in datasets.items() if dataset.splits]


def linked_pictures(name: str, declared: pl.DataFrame) -> pl.DataFrame:
    """Pairs of a dataset's pictures that one text names, if some of them have no official split."""
    if declared.filter(pl.col("split") == "", dataset=name).is_empty():
        return NO_LINKS
    texts = pl.read_parquet(Path("read", name, "texts.parquet"), columns=["picture", "target", "members"])
    named = texts.select("picture", other=pl.concat_list("target", "members")).explode("other").drop_nulls()
    return named.unique(maintain_order=True).select(pl.lit(name).alias("dataset"), "picture", "other")


def declared_pictures(name: str) -> pl.DataFrame:
    """What a dataset declares, with what the scan found; sha256 is null where the scan rejected the file."""
    scanned = read_table(Path("scan", name), "pictures").rename(FILE_SIZE)
    declared = read_table(Path("read", name), "images")
    same = ["picture", "drop", "split"]
    joined = declared.join(scanned.unique(same), on=same, how="left", maintain_order="left")
    return joined.insert_column(0, pl.lit(name).alias("dataset"))


def build_catalogue(
    declared: pl.DataFrame, datasets: Mapping[str, params.Dataset], links: pl.DataFrame = NO_LINKS
) -> tuple[pl.DataFrame, pl.DataFrame, Account, Leakage]:
    """Declared pictures → (catalogue sorted by dataset, split, shard and key; findings; accounts; leakage).

    links: `picture` and `other` of a `dataset`, named by one text.
    """
    numbered = declared.with_row_index("row")
    alike = list(_look_alikes(numbered))
    grouped = numbered.with_columns(group=_group_names(numbered, alike))
    grouped = grouped.with_columns(split=_splits(grouped, units_of(grouped, links), datasets))
    judged = grouped.with_columns(evaluation=(pl.col("split") != TRAIN).any().over("group"))
    scanned = judged.filter(pl.col("sha256").is_not_null())
    kept, findings = _judge(scanned)
    account = Account()
    account.add("images", len(scanned), len(kept), rejected(findings))
    return _placed(kept, datasets), findings, account, _leakage(judged, alike, kept["row"])


def _leakage(judged: pl.DataFrame, alike: Iterable[tuple[int, int]], kept: pl.Series) -> Leakage:
    """What training and evaluation shared as declared, and what is left of it among the kept: nothing."""
    known = evidence(judged, groups([()] * len(judged), alike))
    train = judged["split"] == TRAIN
    left = leaks(known, train, ~train | judged["row"].is_in(kept.implode()))
    assert not any(counts["pairs"] for counts in left.values()), f"training holds evaluation pictures: {left}"
    return {"declared": leaks(known, train, train | ~train), "kept": left}


def _group_names(declared: pl.DataFrame, alike: Iterable[tuple[int, int]]) -> pl.Series:
    """The first source id of the earliest member, in the order of params.yaml, drops and rows."""
    ids = declared["source_ids"].to_list()
    own = (f"{dataset}:{picture}" for dataset, picture in declared.select("dataset", "picture").iter_rows())
    names = [row[0] if row else name for row, name in zip(ids, own, strict=True)]
    keys = [
        [*row, name, *([f"sha256:{digest}"] if digest else [])]
        for row, name, digest in zip(ids, names, declared["sha256"], strict=True)
    ]
    return pl.Series([names[first] for first in groups(keys, alike)], dtype=pl.String)


def _look_alikes(numbered: pl.DataFrame) -> Iterator[tuple[int, int]]:
    """Pairs of rows that show the same picture in another encoding."""
    scanned = numbered.filter(pl.col("sha256").is_not_null())
    thumbs = np.frombuffer(b"".join(scanned["thumb"].to_list()), np.uint8).reshape(len(scanned), THUMB_BYTES)
    rows = scanned["row"].to_list()
    return ((rows[a], rows[b]) for a, b in look_alikes(scanned["phash"].to_numpy(), thumbs))


def units_of(grouped: pl.DataFrame, links: pl.DataFrame) -> pl.Series:
    """The name of each row's unit: the first of the groups that texts tie together, directly or not."""
    rows = grouped.select("dataset", "picture", "row").unique(["dataset", "picture"], keep="first")
    others = rows.rename({"picture": "other", "row": "other_row"})
    tied = links.join(rows, on=["dataset", "picture"]).join(others, on=["dataset", "other"])
    names = grouped["group"]
    firsts = groups([[name] for name in names], tied.select("row", "other_row").iter_rows())
    return names.gather(firsts)


def _splits(grouped: pl.DataFrame, units: pl.Series, datasets: Mapping[str, params.Dataset]) -> pl.Series:
    """The official split; else that of the unit (evaluation before train); else one by hash."""
    official: dict[str, str] = {}
    for unit, split in zip(units, grouped["split"], strict=True):
        if split and official.get(unit, TRAIN) == TRAIN:
            official[unit] = split
    splits = [
        split or official.get(unit) or _own_split(dataset, unit, datasets[dataset].splits)
        for dataset, unit, split in zip(grouped["dataset"], units, grouped["split"], strict=True)
    ]
    return pl.Series(splits, dtype=pl.String)


def _own_split(dataset: str, unit: str, shares: Mapping[str, float]) -> str:
    if not shares:
        raise ParamsError(
            f"params.yaml: datasets.{dataset}",
            "has pictures without an official split and no `splits`",
            fix="add `splits: {train: 0.9, val: 0.1}`",
        )
    return placement.own_split(unit, shares)


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
