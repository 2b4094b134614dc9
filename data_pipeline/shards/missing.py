"""What a dataset declares of each split and no shard holds: declared minus kept, whatever stage rejected it.

Not counted is what is left out on purpose: training copies of pictures of an evaluation split with their
texts, codes in the place of a text, and records that repeat the id of another.
"""

import polars as pl
from polars import DataFrame, LazyFrame

from data_pipeline.pictures.placement import TRAIN

NOTE = "note"  # of CIRR, an edit that names neither target nor image set: no query, so no file lacks it
KINDS = {"images": "picture", "texts": "text"}  # the latter of a record whose file does not tell its role


def missing(dataset: str, catalogue: DataFrame) -> dict[str, dict[str, int]]:
    """Split → "picture", NOTE or role of text → how many; the split is "" where none is known.

    catalogue: the dataset's part.
    """
    splits = catalogue.select("split", id="picture")
    unofficial = splits.with_columns(split=pl.lit(""))  # as it is declared where a dataset has no splits
    images, texts, copies = _pictures(dataset), _texts(dataset), _copies(dataset)
    kept_images = pl.concat([splits, unofficial]).lazy()
    kept_texts = pl.scan_parquet(f"spans/{dataset}/texts.parquet").select("split", id="text")
    found = [
        _lost(images, kept_images, splits, copies),
        _lost(texts, kept_texts, splits, copies),
        _unread(dataset, "images", images),
        _unread(dataset, "texts", texts),
    ]
    counted: dict[str, dict[str, int]] = {}
    rows = pl.concat(found).group_by("split", "kind").len().sort("split", "kind")
    for split, kind, count in rows.iter_rows():
        counted.setdefault(split, {})[kind] = count
    return counted


def _pictures(dataset: str) -> LazyFrame:
    """A row per declared picture; see _texts."""
    return pl.scan_parquet(f"read/{dataset}/images.parquet").select(
        "split",
        "picture",
        "source_file",
        id="picture",
        kind=pl.lit(KINDS["images"]),
        target=pl.lit(None, pl.String),
    )


def _texts(dataset: str) -> LazyFrame:
    """A row per declared text: its id, what it is counted as, and the pictures that it hangs on."""
    named = pl.concat_list("target", "members").list.len()
    note = (pl.col("role") == "edit") & (named == 0)
    return pl.scan_parquet(f"read/{dataset}/texts.parquet").select(
        "split",
        "picture",
        "source_file",
        id="text",
        kind=pl.when(note).then(pl.lit(NOTE)).otherwise("role"),
        target=pl.col("target").list.first(),
    )


def _copies(dataset: str) -> pl.Series:
    """Pictures of which a training row was rejected because an evaluation split holds them."""
    found = pl.read_parquet("images/findings.parquet", columns=["dataset", "reason", "id"])
    return found.filter(dataset=dataset, reason="in_evaluation_split")["id"]


def _lost(declared: LazyFrame, kept: LazyFrame, splits: DataFrame, copies: pl.Series) -> DataFrame:
    """split and kind of rows that were read and are not kept. splits: of every kept picture, its `id`.

    A text of no official split is of its picture's.
    """
    gone = declared.join(kept, on=["id", "split"], how="anti").collect()
    copied = pl.any_horizontal(pl.col("picture", "target").is_in(copies.implode()))
    meant = copied.fill_null(False) & pl.col("split").is_in(["", TRAIN])
    rest = gone.unique(["id", "split"], keep="first", maintain_order=True).filter(~meant)
    placed = rest.join(splits.rename({"id": "picture", "split": "own"}), on="picture", how="left")
    official = pl.when(pl.col("split") != "").then("split")
    return placed.select(split=pl.coalesce(official, "own", pl.lit("")), kind="kind")


def _unread(dataset: str, table: str, declared: LazyFrame) -> DataFrame:
    """split and kind of records that stage read could not use: those of their file, if it is of one split."""
    found = pl.scan_parquet(f"read/{dataset}/findings.parquet").filter(
        pl.col("reason") != "no_caption", table=table, outcome="reject"
    )
    one = pl.when(pl.col("split").n_unique() == 1).then(pl.col("split").first())
    files = declared.group_by("source_file").agg(split=one, kind=pl.col("kind").first())
    unread = found.select("id", source_file="file").unique(maintain_order=True)
    rejected = unread.join(declared, on="id", how="anti")
    placed = rejected.join(files, on="source_file", how="left").collect()
    return placed.select(pl.col("split").fill_null(""), pl.col("kind").fill_null(KINDS[table]))
