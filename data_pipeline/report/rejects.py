"""Examples of what the stages found: the row, its place in the source, its picture with the box concerned."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from contract.params import Dataset
from data_pipeline.pictures import drawing
from data_pipeline.report.album import Album, Plain
from data_pipeline.tables import CASCADES

EXCERPT = 260  # characters of a source record
RED = "#d0021b"
LONG_SIDES = ("x", "y", "width", "height")
Kind = tuple[str, ...]  # reason, outcome, table
Wanted = dict[str, set[str]]  # dataset → names


class Case(NamedTuple):
    """A finding that is shown. text: the picture and content of the text that it is about."""

    row: Plain
    record: Plain
    text: Plain | None
    path: Path | None


class Originals:
    """Where the pictures and the texts of findings are, looked up in one pass over each table."""

    def __init__(self, datasets: Mapping[str, Dataset]) -> None:
        self._datasets = datasets

    def files(self, names: Wanted) -> dict[tuple[str, str], Path]:
        """(dataset, picture) → its file, of pictures read or rejected."""
        return {
            (dataset, picture): Path(self._datasets[dataset].folder, file)
            for dataset, wanted in names.items()
            if dataset in self._datasets
            for picture, file in _rows(dataset, "images", wanted, "picture", "file")
        }

    def texts(self, names: Wanted) -> dict[tuple[str, str], Plain]:
        """(dataset, text) → its picture and content."""
        return {
            (dataset, text): {"picture": picture, "content": content}
            for dataset, wanted in names.items()
            if dataset in self._datasets
            for text, picture, content in _rows(dataset, "texts", wanted, "text", "picture", "content")
        }


def _rows(dataset: str, table: str, wanted: set[str], name: str, *columns: str) -> list[tuple[str, ...]]:
    """The first row of each name."""
    rows = pl.scan_parquet(f"read/{dataset}/{table}.parquet").filter(pl.col(name).is_in(sorted(wanted)))
    return rows.select(name, *columns).unique(name, keep="first", maintain_order=True).collect().rows()


def examples(found: pl.DataFrame, most: int, originals: Originals, album: Album) -> dict[Kind, list[Plain]]:
    """Up to `most` findings per (reason, outcome, table), of each dataset in turn; cascades have none."""
    kind = ["reason", "outcome", "table"]
    turn = pl.int_range(pl.len()).over(*kind, "dataset")
    own = found.filter(~pl.col("reason").is_in(CASCADES)).with_columns(turn=turn)
    ordered = own.sort(*kind, "turn", "dataset", maintain_order=True)
    chosen = ordered.filter(pl.int_range(pl.len()).over(*kind) < most)
    cards: dict[Kind, list[Plain]] = {}
    for case in _cases(chosen.to_dicts(), originals):
        cards.setdefault(tuple(case.row[name] for name in kind), []).append(_card(case, album))
    return cards


def _cases(rows: list[Plain], originals: Originals) -> list[Case]:
    """Every finding with its record, its text and its picture's file."""
    records = [_parsed(row["record"]) for row in rows]
    datasets = [
        row["dataset"] or record.get("dataset", "") for row, record in zip(rows, records, strict=True)
    ]
    spoken = [
        str(record.get("text", "")) if row["table"] in ("texts", "entities") else None
        for row, record in zip(rows, records, strict=True)
    ]
    texts = originals.texts(_wanted(datasets, spoken))
    told = [texts.get((dataset, name or "")) for dataset, name in zip(datasets, spoken, strict=True)]
    shown = [_picture_of(*parts) for parts in zip(rows, records, told, strict=True)]
    files = originals.files(_wanted(datasets, shown))
    paths = [files.get((dataset, picture or "")) for dataset, picture in zip(datasets, shown, strict=True)]
    return [Case(*parts) for parts in zip(rows, records, told, paths, strict=True)]


def _wanted(datasets: list[str], names: Sequence[str | None]) -> Wanted:
    wanted: Wanted = {}
    for dataset, name in zip(datasets, names, strict=True):
        if name:
            wanted.setdefault(dataset, set()).add(name)
    return wanted


def _card(case: Case, album: Album) -> Plain:
    row, record = case.row, case.record
    box = _box_of(record) if row["table"] == "regions" else None
    card = {key: row[key] for key in ("id", "detail", "file", "position")}
    words = {"runs": _words(row["table"], record, case.text), "answer": record.get("answer")}
    excerpt = _excerpt(record, row["record"])
    picture = album.add(case.path, [box] if box else [])
    return {"dataset": row["dataset"], **card, **words, "excerpt": excerpt, "picture": picture}


def _excerpt(record: Plain, source: str) -> str:
    shown = json.dumps(record, ensure_ascii=False) if record else source
    return shown if len(shown) <= EXCERPT else shown[:EXCERPT] + " …"


def _words(table: str, record: Plain, text: Plain | None) -> list[drawing.Run]:
    """The text that a finding is about; of a span, with the span in red."""
    content = record.get("content") or (text or {}).get("content")
    if table not in ("texts", "entities") or not isinstance(content, str):
        return []
    return _marked(content, record) if table == "entities" else [drawing.Run(content, None)]


def _parsed(record: str) -> Plain:
    try:
        parsed = json.loads(record)
    except json.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _picture_of(row: Plain, record: Plain, text: Plain | None) -> str | None:
    if text is not None:
        return str(text["picture"])
    if row["table"] == "images":
        return str(row["id"])
    named = [record[field] for field in ("picture", "imageId", "image_id", "reference") if field in record]
    if named:
        return str(named[0])
    return row["id"].rpartition("/")[0] if row["table"] == "regions" else None


def _box_of(record: Plain) -> Plain | None:
    """The offending box as the source has it; None where it has no numbers."""
    sides = [record.get(short, record.get(long)) for short, long in zip("xywh", LONG_SIDES, strict=True)]
    if not all(isinstance(side, int | float) and abs(side) < 1e9 for side in sides):
        return None
    return {**dict(zip("xywh", sides, strict=True)), "colour": RED, "label": str(record.get("name") or "")}


def _marked(content: str, span: Plain) -> list[drawing.Run]:
    """The text with the span in red, where it has a place."""
    start, end = span.get("start", -1), span.get("end", -1)
    if not 0 <= start < end <= len(content):
        return [drawing.Run(content, None)]
    parts = ((content[:start], None), (content[start:end], RED), (content[end:], None))
    return [drawing.Run(text, colour) for text, colour in parts if text]
