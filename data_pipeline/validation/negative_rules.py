"""What makes a text that the dataset calls false of its picture unusable; the true text stays.

Columns: those of the text, of which `content` is the false one here; `is_true` where any text says the same
of the same picture and boxes.
"""

import polars as pl

from data_pipeline.validation.rules import Rule, Table, again, apply
from data_pipeline.validation.text_rules import CONTENT, UNREADABLE

TABLE = Table("texts", pl.col("text"), ["text", "picture", "about", "content"])


def _said(text: pl.Expr) -> pl.Expr:
    """What a text says, whatever its case, spaces and full stop."""
    return text.str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars(" .")


RULES = [
    Rule("negative_unreadable", "reject", pl.any_horizontal(rule.when for rule in UNREADABLE), CONTENT),
    Rule("negative_is_positive", "reject", pl.col("is_true"), CONTENT),
    Rule("negative_repeated", "reject", again("row", "content"), CONTENT),
]


def drop_unsound(texts: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(texts without the unusable ones among their `negatives`, a finding for each that left)."""
    numbered = texts.with_row_index("row")
    given = numbered.filter(pl.col("negatives").list.len() > 0).explode("negatives")
    false = given.with_columns(content=pl.col("negatives").struct.field("text"))
    kept, findings = apply(_compared(false, texts), TABLE, RULES)
    lists = kept.group_by("row", maintain_order=True).agg("negatives")
    rest = numbered.select("row").join(lists, on="row", how="left", maintain_order="left")["negatives"]
    mended = findings.with_columns(outcome=pl.lit("repair"))  # the text that they hang on is kept
    return texts.with_columns(negatives=rest.fill_null([])), mended


def _compared(false: pl.DataFrame, texts: pl.DataFrame) -> pl.DataFrame:
    """The false texts with `is_true`; null stands for no."""
    near = texts.filter(pl.col("picture").is_in(false["picture"].implode()))
    true = near.select("picture", "about", said=_said(CONTENT)).unique().with_columns(is_true=True)
    same = ["picture", "about", "said"]
    return false.with_columns(said=_said(CONTENT)).join(true, on=same, how="left", maintain_order="left")
