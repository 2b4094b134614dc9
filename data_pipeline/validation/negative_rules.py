"""What makes a text that the dataset calls false of its picture unusable; the true text stays.

Columns: those of the text, of which `content` is the false one here and `told` the true one.
"""

import polars as pl

from data_pipeline.validation.rules import Rule, Table, again, apply
from data_pipeline.validation.text_rules import CONTENT, UNREADABLE

TABLE = Table("texts", pl.col("text"), ["text", "picture", "told", "content"])


def _said(text: pl.Expr) -> pl.Expr:
    """What a text says, whatever its case, spaces and full stop."""
    return text.str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars(" .")


RULES = [
    Rule("negative_unreadable", "reject", pl.any_horizontal(rule.when for rule in UNREADABLE), CONTENT),
    Rule("negative_is_positive", "reject", _said(CONTENT) == _said(pl.col("told")), CONTENT),
    Rule("negative_repeated", "reject", again("row", "content"), CONTENT),
]


def drop_unsound(texts: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(texts without the unusable ones among their `negatives`, a finding for each that left)."""
    numbered = texts.with_row_index("row")
    given = numbered.filter(pl.col("negatives").list.len() > 0).explode("negatives")
    judged = given.with_columns(told=CONTENT, content=pl.col("negatives").struct.field("text"))
    kept, findings = apply(judged, TABLE, RULES)
    lists = kept.group_by("row", maintain_order=True).agg("negatives")
    rest = numbered.select("row").join(lists, on="row", how="left", maintain_order="left")["negatives"]
    mended = findings.with_columns(outcome=pl.lit("repair"))  # the text that they hang on is kept
    return texts.with_columns(negatives=rest.fill_null([])), mended
