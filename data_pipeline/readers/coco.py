"""COCO: instances with their masks, and captions. cocodataset.org

`shards` names the splits; the year is an option, so that 2014 and 2017 are read alike:
annotations/{instances,captions}_<split><year>.json with the pictures in <split><year>/. Every picture of
the instances file is declared, annotated or not. Captions carry no spans.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from contract.params import Strict, convert
from data_pipeline.reading.coco_instances import (
    File,
    Id,
    Picture,
    category_names,
    open_file,
    pictures,
    regions,
)
from data_pipeline.reading.coco_masks import Size
from data_pipeline.reading.json_stream import decode_each, id_of
from data_pipeline.reading.sources import At, Source, reject
from data_pipeline.tables import Finding, Image, PassedOver, Row, Text

OFFICIAL = "{} of annotations_trainval{}.zip of cocodataset.org"


class Options(Strict, frozen=True):
    """`options:` of the dataset in params.yaml. year: of the release; it ends the names of all files."""

    year: Literal["2014", "2017"] = "2017"


class Caption(Struct):
    id: Id
    image_id: Id
    caption: str


_caption = msgspec.json.Decoder(Caption)


def read(source: Source) -> Iterator[Row | PassedOver]:
    """Pictures, boxes, then captions, of each split that the drop's `shards` names."""
    options = convert(dict(source.options), Options, f"{source.where}.options")
    _note_other_splits(source, options.year)
    for split in source.splits:
        sizes: dict[int, Size] = {}
        instances = _annotations(source, "instances", split, options.year)
        content, file = open_file(instances), source.at(instances)
        for at, found in pictures(file, content):
            if isinstance(found, Finding):
                yield found
                continue
            sizes[found.id] = found.size
            yield _image(source, split, options.year, found, at)
        yield from regions(file, content, category_names(instances, content), sizes)
        captions = _annotations(source, "captions", split, options.year)
        yield from _captions(open_file(captions), source.at(captions), split)


def _annotations(source: Source, kind: str, split: str, year: str) -> Path:
    name = f"annotations/{kind}_{split}{year}.json"
    return source.find(name, official=OFFICIAL.format(name, year))


def _note_other_splits(source: Source, year: str) -> None:
    files = source.root.glob(f"annotations/instances_*{year}.json")
    there = {path.stem.removeprefix("instances_").removesuffix(year) for path in files}
    if others := sorted(there.difference(source.splits)):
        source.note(f"not read, as no drop's shards names it: {', '.join(others)}")


def _image(source: Source, split: str, year: str, found: Picture, at: At) -> Image:
    file = source.file(f"{split}{year}/{found.file_name}")
    ids = [f"coco:{found.id}"]
    return Image(str(found.id), file, split, found.width, found.height, ids, *at)


def _captions(content: File, file: At, split: str) -> Iterator[Text | Finding]:
    for number, found, wrong in decode_each(content.annotations, _caption):
        at, raw = file.inside("annotations", str(number)), content.annotations[number]
        if found is None:
            yield reject("texts", id_of(raw, "id") or at.name, "malformed", at, raw, wrong)
            continue
        yield Text(
            str(found.id), str(found.image_id), "caption", found.caption, None, "", [], [], [], [], split, *at
        )
