"""Texts and the phrases in them: how long, how many tied to a box, and how the phrases were found."""

import json
from collections.abc import Iterable
from pathlib import Path

import polars as pl
from msgspec import Struct

from data_pipeline.report.bins import counts

TOKENS = (5, 9, 17, 33, 65, 129)
TOKEN_LABELS = ("1–4", "5–8", "9–16", "17–32", "33–64", "65–128", "129 +")


class Coverage(Struct):
    """Texts of one role in one dataset. with_boxes: a phrase of the text, or all of it, names a box.

    matched: spans that were found by their words; the others come from the source. linked: with a box.
    """

    dataset: str
    role: str
    texts: int
    with_spans: int
    with_boxes: int
    spans: int
    linked: int
    matched: int
    tokens: dict[str, int]
    longest: int


def coverage(dataset: str, texts: pl.DataFrame) -> list[Coverage]:
    """Per role, alphabetically. texts: of spans/<dataset>, with `role`, `about` and `tokens`."""
    entities = pl.read_parquet(f"spans/{dataset}/entities.parquet", columns=["text", "regions", "source"])
    linked = pl.col("regions").list.len() > 0
    spans = entities.group_by("text").agg(
        spans=pl.len(), linked=linked.sum(), matched=(pl.col("source") == "matched").sum()
    )
    joined = texts.join(spans, on="text", how="left").with_columns(
        pl.col("spans", "linked", "matched").fill_null(0), length=pl.col("tokens").list.len()
    )
    return [_of_role(dataset, str(role), part) for (role,), part in _by_role(joined)]


def audit(datasets: Iterable[str]) -> dict[str, dict[str, int]]:
    """{dataset: {what: count}}: what the tokenizer did to texts and spans."""
    return {name: json.loads(Path("spans", name, "audit.json").read_text()) for name in datasets}


def _by_role(texts: pl.DataFrame) -> Iterable[tuple[tuple[object, ...], pl.DataFrame]]:
    return sorted(texts.partition_by("role", as_dict=True).items(), key=str)


def _of_role(dataset: str, role: str, texts: pl.DataFrame) -> Coverage:
    tied = (pl.col("linked") > 0) | (pl.col("about").list.len() > 0)
    return Coverage(
        dataset=dataset,
        role=role,
        texts=len(texts),
        with_spans=len(texts.filter(pl.col("spans") > 0)),
        with_boxes=len(texts.filter(tied)),
        **{name: int(texts[name].sum()) for name in ("spans", "linked", "matched")},
        tokens=counts(texts["length"], TOKENS, TOKEN_LABELS),
        longest=int(texts["length"].max() or 0),  # type: ignore[arg-type]
    )
