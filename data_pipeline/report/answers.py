"""How the answers of the training questions are spread: what a guess by question type alone would score."""

from collections.abc import Mapping

import polars as pl
from msgspec import Struct

from data_pipeline.report.splits import TRAIN

TOP_ANSWERS = 5


class Balance(Struct):
    """One question type of one dataset. top: its most frequent answers with their shares."""

    dataset: str
    type: str
    questions: int
    answers: int
    top: list[tuple[str, float]]


def balance(catalogue: pl.DataFrame, texts: Mapping[str, pl.DataFrame]) -> list[Balance]:
    """Per dataset and question type of the train split, types in alphabetical order."""
    rows = []
    train = catalogue.filter(split=TRAIN)
    for name, table in texts.items():
        asked = table.filter(pl.col("answer").is_not_null(), role="question")
        asked = asked.join(train.filter(dataset=name), on="picture", how="semi")
        for (kind,), part in sorted(asked.partition_by("type", as_dict=True).items()):
            counted = part.group_by("answer").len().sort(["len", "answer"], descending=[True, False])
            top = [(answer, count / len(part)) for answer, count in counted.head(TOP_ANSWERS).iter_rows()]
            rows.append(Balance(name, kind, len(part), len(counted), top))
    return rows
