"""Counts of numbers between edges, under labels that a person reads."""

from collections.abc import Sequence

import polars as pl


def counts(values: pl.Series, edges: Sequence[float], labels: Sequence[str]) -> dict[str, int]:
    """{label: values of [edge, next edge)}. The first bin has no lower end, the last no upper one."""
    assert len(labels) == len(edges) + 1
    placed = pl.Series(values=edges, dtype=pl.Float64).search_sorted(values.cast(pl.Float64), side="right")
    found = dict(placed.value_counts().iter_rows())
    return {label: int(found.get(number, 0)) for number, label in enumerate(labels)}
