"""What the report shows beside numbers: pictures with boxes, texts with spans; and the page itself.

A picture is a dict for the template: `uri` (a JPEG inside the page), `width`, `height` (pixels of the
file), `boxes` [{x, y, w, h, colour, label}] in those pixels; or `missing`, why there is none.
"""

import base64
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import simplejpeg
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from contract import codec, index, params
from contract.errors import RawDataError
from contract.record import Record, Text
from contract.seeds import uniform
from data_pipeline.pictures import drawing
from data_pipeline.pictures.picture_files import decode_rgb
from data_pipeline.reasons import REASONS
from data_pipeline.report.dataset_facts import Plain
from data_pipeline.shards import shard_reader
from data_pipeline.tables import CASCADES

SIDE, QUALITY = 300, 78  # of the pictures in the page: longest side in pixels, JPEG quality
PICTURE_BYTES = 4_200_000  # of all of them as base64: the page stays under 6 MB
SAMPLE_TEXTS = 6
EXCERPT = 260  # characters of a source record
RED = "#d0021b"
TEMPLATES = Path(__file__).parent / "templates"


class Album:
    """Pictures as they go into the page, until it is full."""

    def __init__(self, limit: int = PICTURE_BYTES) -> None:
        self._left = limit

    def add(self, path: Path | None, boxes: Sequence[Plain] = ()) -> Plain:
        """The picture of a file, or why there is none."""
        if path is None:
            return {"missing": "no picture"}
        try:
            pixels = decode_rgb(path)
        except RawDataError as error:
            return {"missing": error.problem}
        uri = _data_uri(pixels)
        if len(uri) > self._left:
            return {"missing": "left out: the page is full"}
        self._left -= len(uri)
        height, width = pixels.shape[:2]
        return {
            "uri": uri,
            "width": width,
            "height": height,
            "boxes": [placed(box, width, height) for box in boxes],
        }


def _data_uri(pixels: np.ndarray[Any, Any]) -> str:
    small = Image.fromarray(pixels)
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    content = simplejpeg.encode_jpeg(np.ascontiguousarray(small), QUALITY, colorspace="RGB")
    return "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")


def placed(box: Plain, width: int, height: int) -> Plain:
    """A box in pixels, whatever is wrong with it, so that it can be seen: inside the frame and not empty."""
    pad = frame(width, height)
    xs = sorted(_within(edge, -pad, width + pad) for edge in (box["x"], box["x"] + box["w"]))
    ys = sorted(_within(edge, -pad, height + pad) for edge in (box["y"], box["y"] + box["h"]))
    sides = {"w": max(xs[1] - xs[0], 1), "h": max(ys[1] - ys[0], 1)}
    return {**box, "x": xs[0], "y": ys[0], **sides}


def _within(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def frame(width: int, height: int) -> int:
    """Pixels of paper around a picture: room for a box that leaves it."""
    return round(0.06 * max(width, height))


class Sources:
    """Where the picture and the text of a finding are."""

    def __init__(self, datasets: dict[str, params.Dataset]) -> None:
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


def examples(
    found: pl.DataFrame, most: int, sources: Sources, album: Album
) -> dict[tuple[str, str, str], list[Plain]]:
    """Up to `most` findings per (reason, outcome, table), of each dataset in turn; cascades have none."""
    kind = ["reason", "outcome", "table"]
    turn = pl.int_range(pl.len()).over(*kind, "dataset")
    own = found.filter(~pl.col("reason").is_in(CASCADES)).with_columns(turn=turn)
    ordered = own.sort(*kind, "turn", "dataset", maintain_order=True)
    chosen = ordered.filter(pl.int_range(pl.len()).over(*kind) < most)
    cards: dict[tuple[str, str, str], list[Plain]] = {}
    for row in chosen.iter_rows(named=True):
        cards.setdefault((row["reason"], row["outcome"], row["table"]), []).append(
            _example(row, sources, album)
        )
    return cards


def _example(row: Plain, sources: Sources, album: Album) -> Plain:
    record = _parsed(row["record"])
    dataset = row["dataset"]
    text = (
        sources.text(dataset, str(record.get("text", ""))) if row["table"] in ("texts", "entities") else None
    )
    picture = _picture_of(row, record, text)
    path = sources.file(dataset, picture) if picture else None
    box = _box_of(record) if row["table"] == "regions" else None
    shown = json.dumps(record, ensure_ascii=False) if record else row["record"]
    excerpt = shown if len(shown) <= EXCERPT else shown[:EXCERPT] + " …"
    card = {key: row[key] for key in ("dataset", "id", "detail", "file", "position")}
    words = {"runs": _words(row["table"], record, text), "answer": record.get("answer")}
    return {**card, **words, "excerpt": excerpt, "picture": album.add(path, [box] if box else [])}


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
    sides = [record.get(short, record.get(long)) for short, long in zip("xywh", _LONG, strict=True)]
    if not all(isinstance(side, int | float) and abs(side) < 1e9 for side in sides):
        return None
    return {**dict(zip("xywh", sides, strict=True)), "colour": RED, "label": str(record.get("name") or "")}


_LONG = ("x", "y", "width", "height")


def _marked(content: str, span: Plain) -> list[drawing.Run]:
    """The text with the span in red, where it has a place."""
    start, end = span.get("start", -1), span.get("end", -1)
    if not 0 <= start < end <= len(content):
        return [drawing.Run(content, None)]
    parts = ((content[:start], None), (content[start:end], RED), (content[end:], None))
    return [drawing.Run(text, colour) for text, colour in parts if text]


def samples(dataset: str, catalogue: pl.DataFrame, most: int, album: Album) -> list[Plain]:
    """Records drawn by a hash of their keys, out of those with texts: pictures, boxes, texts."""
    paths = {
        key: Path(path) for key, path in catalogue.filter(dataset=dataset).select("key", "path").iter_rows()
    }
    shards = [
        Path("data", f"{name}.tar") for name in sorted(catalogue.filter(dataset=dataset)["shard"].unique())
    ]
    chosen = sorted(pair for shard in shards for pair in _lots(shard))[:most]
    return [_sample(shard, key, paths, album) for _, shard, key in chosen]


def _lots(shard: Path) -> Iterable[tuple[float, Path, str]]:
    known = index.load(shard)
    for key, texts in zip(known.keys(), known.rows["texts"].tolist(), strict=True):
        if any(texts):
            yield uniform("report", key), shard, key


def _sample(shard: Path, key: str, paths: dict[str, Path], album: Album) -> Plain:
    record = codec.decode_record(shard_reader.member(shard, index.load(shard), key, "json"), f"{shard}/{key}")
    texts = _varied(record.texts)
    target = next((text.target[0] for text in texts if text.target), None)
    return {
        "id": record.id,
        "shard": shard.stem,
        "picture": album.add(paths.get(key), _boxes(record, texts)),
        "target": album.add(paths.get(target)) if target else None,
        "texts": [{"role": text.role, "answer": text.answer, "runs": drawing.runs(text)} for text in texts],
        "more": len(record.texts) - len(texts),
    }


def _varied(texts: Sequence[Text]) -> list[Text]:
    """The first texts of each role in turn, back in the record's order."""
    turns: dict[str, int] = {}
    ranked = []
    for place, text in enumerate(texts):
        turns[text.role] = turns.get(text.role, 0) + 1
        ranked.append((turns[text.role], place))
    return [texts[place] for place in sorted(place for _, place in sorted(ranked)[:SAMPLE_TEXTS])]


def _boxes(record: Record, texts: Sequence[Text]) -> list[Plain]:
    """The boxes that the shown texts speak of, or all where they speak of none; large ones below."""
    spoken = {
        row for text in texts for row in [*text.about, *(row for rows in text.span_regions for row in rows)]
    }
    rows = spoken or set(range(len(record.regions.id)))
    boxes = []
    for row in rows:
        x0, y0, x1, y1 = record.regions.box[row]
        place = {"x": x0 * record.width, "y": y0 * record.height}
        size = {"w": (x1 - x0) * record.width, "h": (y1 - y0) * record.height}
        boxes.append(
            {**place, **size, "colour": drawing.colour(row), "label": record.regions.name[row], "row": row}
        )
    return sorted(boxes, key=lambda box: (-box["w"] * box["h"], box["row"]))


def render(
    facts: Plain, cards: dict[tuple[str, str, str], list[Plain]], shown: dict[str, list[Plain]]
) -> str:
    """The page: one file, nothing fetched from elsewhere."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., Any]] = {
        "n": grouped,
        "size": size,
        "percent": percent,
        "threshold": threshold,
        "tint": drawing.tint,
    }
    environment.filters |= filters
    environment.globals |= {"frame": frame, "palette": drawing.PALETTE}
    page = environment.get_template("dataset.html")
    return page.render(**facts, cards=cards, samples=shown, reasons=REASONS)


def grouped(number: int) -> str:
    """12345 → 12,345."""
    return f"{number:,}"


def size(number: float) -> str:
    """Bytes in the unit that reads best."""
    for unit in ("B", "KB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def percent(share: float) -> str:
    """0.1234 → 12 %, small shares with a decimal."""
    return f"{100 * share:.1f} %" if 0 < share < 0.1 else f"{100 * share:.0f} %"


def threshold(share: str) -> str:
    """0.0025 → 0.25 %, with every digit."""
    return f"{100 * float(share):g} %"
