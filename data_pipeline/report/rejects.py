"""Examples of what the stages found: the row, its place in the source, its picture with the box concerned."""

import json
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from contract.params import Dataset
from data_pipeline.pictures import drawing
from data_pipeline.report.album import Album, Plain
from data_pipeline.tables import CASCADES

EXCERPT = 260  # characters of a source record
RED = "#d0021b"
LONG_SIDES = ("x", "y", "width", "height")
Kind = tuple[str, str, str]  # reason, outcome, table


class Originals:
    """Where the picture and the text of a finding are."""

    def __init__(self, datasets: Mapping[str, Dataset]) -> None:
        self._datasets = datasets

    def file(self, dataset: str, picture: str) -> Path | None:
        """The file of a picture, read or rejected."""
        if dataset not in self._datasets:
            return None
        declared = pl.scan_parquet(f"read/{dataset}/images.parquet").filter(picture=picture).select("file")
        files = declared.head(1).collect()["file"].to_list()
        return Path(self._datasets[dataset].folder, files[0]) if files else None

    def text(self, dataset: str, name: str) -> Plain | None:
        """{picture, content} of a text."""
        texts = pl.scan_parquet(f"read/{dataset}/texts.parquet").filter(text=name)
        rows = texts.select("picture", "content").head(1).collect().to_dicts()
        return rows[0] if rows else None


def examples(found: pl.DataFrame, most: int, originals: Originals, album: Album) -> dict[Kind, list[Plain]]:
    """Up to `most` findings per (reason, outcome, table), of each dataset in turn; cascades have none."""
    kind = ["reason", "outcome", "table"]
    turn = pl.int_range(pl.len()).over(*kind, "dataset")
    own = found.filter(~pl.col("reason").is_in(CASCADES)).with_columns(turn=turn)
    ordered = own.sort(*kind, "turn", "dataset", maintain_order=True)
    chosen = ordered.filter(pl.int_range(pl.len()).over(*kind) < most)
    cards: dict[Kind, list[Plain]] = {}
    for row in chosen.iter_rows(named=True):
        card = _example(row, originals, album)
        cards.setdefault((row["reason"], row["outcome"], row["table"]), []).append(card)
    return cards


def _example(row: Plain, originals: Originals, album: Album) -> Plain:
    record = _parsed(row["record"])
    dataset = row["dataset"] or record.get("dataset", "")
    spoken = row["table"] in ("texts", "entities")
    text = originals.text(dataset, str(record.get("text", ""))) if spoken else None
    picture = _picture_of(row, record, text)
    path = originals.file(dataset, picture) if picture else None
    box = _box_of(record) if row["table"] == "regions" else None
    card = {key: row[key] for key in ("dataset", "id", "detail", "file", "position")}
    words = {"runs": _words(row["table"], record, text), "answer": record.get("answer")}
    excerpt = _excerpt(record, row["record"])
    return {**card, **words, "excerpt": excerpt, "picture": album.add(path, [box] if box else [])}


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
