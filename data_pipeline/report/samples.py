"""Records as the shards hold them: pictures with boxes, texts with the words of each box in its colour."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import polars as pl

from contract import codec, index
from contract.record import Record, Text
from contract.seeds import uniform
from data_pipeline.pictures import drawing
from data_pipeline.report.album import Album, Plain
from data_pipeline.shards import shard_reader

SAMPLE_TEXTS = 6


def samples(dataset: str, catalogue: pl.DataFrame, most: int, album: Album) -> list[Plain]:
    """Records drawn by a hash of their keys, out of those with texts: pictures, boxes, texts."""
    pictures = catalogue.filter(dataset=dataset)
    paths = {key: Path(path) for key, path in pictures.select("key", "path").iter_rows()}
    shards = [Path("data", f"{name}.tar") for name in sorted(pictures["shard"].unique())]
    chosen = sorted(pair for shard in shards for pair in _lots(shard))[:most]
    return [_sample(shard, key, paths, album) for _, shard, key in chosen]


def _lots(shard: Path) -> Iterable[tuple[float, Path, str]]:
    known = index.load(shard)
    for key, texts in zip(known.keys(), known.rows["texts"].tolist(), strict=True):
        if any(texts):
            yield uniform("report", key), shard, key


def _sample(shard: Path, key: str, paths: Mapping[str, Path], album: Album) -> Plain:
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
    return sorted((_box(record, row) for row in rows), key=lambda box: (-box["w"] * box["h"], box["row"]))


def _box(record: Record, row: int) -> Plain:
    x0, y0, x1, y1 = record.regions.box[row]
    place = {"x": x0 * record.width, "y": y0 * record.height}
    size = {"w": (x1 - x0) * record.width, "h": (y1 - y0) * record.height}
    return {**place, **size, "colour": drawing.colour(row), "label": record.regions.name[row], "row": row}
