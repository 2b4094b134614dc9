"""Rules over a table: each a reason, an outcome and a predicate on columns."""

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from data_pipeline.tables import Finding, Outcome


class Rule(NamedTuple):
    """when: a boolean expression over the table's columns; null counts as False."""

    reason: str
    outcome: Outcome
    when: pl.Expr
    detail: pl.Expr = pl.lit("")


class Table(NamedTuple):
    """How findings name the rows of a table. record: the source columns that a finding keeps."""

    name: str
    id: pl.Expr
    record: Sequence[str]


def apply(frame: pl.DataFrame, table: Table, rules: Sequence[Rule]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows kept, findings). The first reject that holds is a row's only one; the rest judge kept rows."""
    rejects = [rule for rule in rules if rule.outcome == "reject"]
    reason = pl.coalesce(*(_say(rule, pl.lit(rule.reason)) for rule in rejects), pl.lit(None, pl.String))
    detail = pl.coalesce(*(_say(rule, rule.detail) for rule in rejects), pl.lit(""))
    judged = frame.with_columns(reason.alias("reason"), detail.alias("detail"))
    lost = judged.filter(pl.col("reason").is_not_null())
    kept = judged.filter(pl.col("reason").is_null()).drop("reason", "detail")
    found = [_findings(lost, table, pl.lit("reject"))]
    for rule in rules:
        if rule.outcome != "reject":
            hit = kept.filter(rule.when).with_columns(reason=pl.lit(rule.reason), detail=rule.detail)
            found.append(_findings(hit, table, pl.lit(rule.outcome)))
    return kept, pl.concat(found)


def _say(rule: Rule, what: pl.Expr) -> pl.Expr:
    return pl.when(rule.when).then(what)


def _findings(rows: pl.DataFrame, table: Table, outcome: pl.Expr) -> pl.DataFrame:
    return (
        rows.select(
            table=pl.lit(table.name),
            id=table.id,
            outcome=outcome,
            reason="reason",
            detail="detail",
            record=pl.struct(table.record).struct.json_encode(),
            file="source_file",
            position="position",
        )
        .cast(pl.String)
        .select(Finding._fields)
    )


def again(*columns: str) -> pl.Expr:
    """True on every row whose values of `columns` stood in an earlier row."""
    return pl.int_range(pl.len()).over(*columns) > 0
