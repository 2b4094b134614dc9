"""How much the training splits share with the evaluation splits, by kind of evidence.

Every kind is a key: a source id, a hash of the file, or the first of the pictures that look alike.
"""

from collections.abc import Sequence

import polars as pl

KINDS = ("source_id", "coco_id", "sha256", "perceptual_hash")
Leaks = dict[str, dict[str, int]]


def evidence(declared: pl.DataFrame, alike: Sequence[int]) -> pl.DataFrame:
    """`row` of a declared picture, `kind` and `key` of what identifies it.

    alike: per row, the first row that looks the same (identity.groups of the look-alikes).
    """
    rows = declared.select(
        "sha256",
        "source_ids",
        row=pl.int_range(pl.len(), dtype=pl.UInt32),
        alike=pl.Series(alike, dtype=pl.Int64),
    )
    ids = rows.select("row", key="source_ids").explode("key").drop_nulls("key")
    coco = pl.col("key").str.starts_with("coco:")
    kind = pl.when(coco).then(pl.lit("coco_id")).otherwise(pl.lit("source_id"))
    named = ids.select("row", kind.alias("kind"), "key")
    scanned = rows.filter(pl.col("sha256").is_not_null())
    hashed = scanned.select("row", pl.lit("sha256").alias("kind"), key="sha256")
    seen = scanned.select("row", pl.lit("perceptual_hash").alias("kind"), key=pl.col("alike").cast(pl.String))
    return pl.concat([named, hashed, seen]).unique()


def leaks(known: pl.DataFrame, train: pl.Series, among: pl.Series) -> Leaks:
    """Per kind: `pairs` of a training and an evaluation picture with one key, `pictures` of training in them.

    known: as `evidence` gives it. train, among: per row, whether it is of a training split and looked at.
    """
    rows = pl.DataFrame({"train": train, "among": among}).with_row_index("row")
    judged = known.join(rows.filter("among"), on="row")
    sides = judged.group_by("kind", "key").agg(
        train=pl.col("train").sum().cast(pl.Int64),
        evaluation=(~pl.col("train")).sum().cast(pl.Int64),
        rows=pl.col("row").filter("train"),
    )
    both = sides.filter(pl.col("train") > 0, pl.col("evaluation") > 0)
    counted = both.group_by("kind").agg(
        pairs=(pl.col("train") * pl.col("evaluation")).sum(), pictures=pl.col("rows").explode().n_unique()
    )
    found = {kind: {"pairs": pairs, "pictures": pictures} for kind, pairs, pictures in counted.iter_rows()}
    return {kind: found.get(kind, {"pairs": 0, "pictures": 0}) for kind in KINDS}
