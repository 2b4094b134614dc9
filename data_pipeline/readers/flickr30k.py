"""Flickr30k Entities: captions, and boxes of their phrases. github.com/BryanPlummer/flickr30k_entities

`Sentences/<id>.txt` holds a caption a line, its phrases marked as `[/EN#<chain>/<type> the words]`. The
phrases of one chain mean the same thing; chain 0 is nothing to be seen. `Annotations/<id>.xml` holds the
boxes: a chain may have several, a box may belong to several chains, and a chain without any (the scene as a
whole, or nothing visible) leaves its phrases without a link. Corners are 1-based and both inside the box.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element, tostring

from contract.errors import RawDataError
from contract.params import Strict, convert
from data_pipeline.reading.small_file import lines
from data_pipeline.reading.sources import At, Source, reject
from data_pipeline.reading.xml_tree import parse
from data_pipeline.tables import Entity, Finding, Image, PassedOver, Region, Row, Text

OFFICIAL = "{} of github.com/BryanPlummer/flickr30k_entities (folders: annotations.zip)"
SPLITS = ("train", "val", "test")
PICTURE = re.compile(r"[0-9]{1,20}")
SIDE = re.compile(r"[0-9]{1,9}")  # pixels
MARKUP = re.compile(r"\[/EN#([0-9]+)((?:/[A-Za-z]+)+) ([^\]]+)\]")
NAMELESS = ("other", "notvisual")  # types that say nothing about a box


class Options(Strict, frozen=True):
    """Flickr30k Entities takes no options."""


class Phrase(NamedTuple):
    """A marked phrase of a caption."""

    start: int  # characters of the caption, half-open
    end: int
    chain: str
    types: str  # "people", or several: "bodyparts/people"


class Caption(NamedTuple):
    """A line of Sentences/<id>.txt."""

    text: str  # "<picture>#<line from 0>"
    content: str
    phrases: list[Phrase]
    at: At


class Box(NamedTuple):
    """An object of Annotations/<id>.xml: 0-based x, y, w, h."""

    region: str
    chains: list[str]
    xywh: tuple[float, float, float, float]
    at: At


def read(source: Source) -> Iterator[Row | PassedOver]:
    """Pictures in the order of the split lists, evaluation first, each with its boxes and captions."""
    convert(dict(source.options), Options, f"{source.where}.options")
    _note_other_splits(source)
    for folder in ("Sentences", "Annotations"):
        source.find(folder, official=OFFICIAL.format(folder))
    unrelated = _unrelated(source)
    seen: set[str] = set()
    for split in sorted(source.splits, key=lambda name: name == "train"):
        listed = source.find(f"{split}.txt", official=OFFICIAL.format(f"{split}.txt"))
        file = source.at(listed)
        for number, line in enumerate(lines(listed)):
            at, picture = file.inside(str(number)), line.strip()
            if picture in seen:
                yield reject("images", picture, "duplicate_picture", at, picture)
            elif not PICTURE.fullmatch(picture):
                yield reject("images", picture, "malformed", at, line, "not a number")
            else:
                seen.add(picture)
                yield from _picture(source, picture, split, at, unrelated)


def _note_other_splits(source: Source) -> None:
    others = [name for name in SPLITS if name not in source.splits and (source.root / f"{name}.txt").exists()]
    if others:
        source.note(f"not read, as no drop's shards names it: {', '.join(others)}")


def _unrelated(source: Source) -> set[str]:
    """Captions that the dataset says describe another picture; its list counts lines from 1."""
    path = source.root / "UNRELATED_CAPTIONS"
    if not path.exists():
        source.note(f"{source.root} holds no UNRELATED_CAPTIONS: captions of other pictures stay")
        return set()
    rows = [line.split() for line in lines(source.find(path.name, official=OFFICIAL.format(path.name)))]
    return {f"{row[0]}#{int(row[1]) - 1}" for row in rows if len(row) == 2 and SIDE.fullmatch(row[1])}


def _picture(
    source: Source, picture: str, split: str, at: At, unrelated: set[str]
) -> Iterator[Row | PassedOver]:
    root, boxed = Element("annotation"), source.root / f"Annotations/{picture}.xml"
    try:
        root = parse(boxed)
    except RawDataError as error:
        yield _unusable("regions", picture, source.at(boxed), error)
    file = source.file(f"flickr30k-images/{picture}.jpg")
    width, height = _size(root)
    yield Image(picture, file, split, width, height, [f"flickr:{picture}"], *at)
    boxes, captions = [], []
    for found in (*_boxes(picture, root, source.at(boxed)), *_captions(source, picture, unrelated)):
        if isinstance(found, Finding | PassedOver):
            yield found
        elif isinstance(found, Box):
            boxes.append(found)
        else:
            captions.append(found)
    yield from _regions(picture, boxes, names(captions))
    yield from _texts(picture, split, captions, boxes)


def _unusable(table: str, picture: str, at: At, error: RawDataError) -> Finding:
    """All that a file says of a picture, counted as one row: how many it held nobody knows."""
    return reject(table, picture, "annotation_unusable", at, picture, str(error.found or error.problem))


def _size(root: Element) -> tuple[int | None, int | None]:
    """The declared width and height; None where there is no such number."""
    width, height = (root.findtext(f"size/{side}", "").strip() for side in ("width", "height"))
    if SIDE.fullmatch(width) and SIDE.fullmatch(height):
        return int(width), int(height)
    return None, None


def _boxes(picture: str, root: Element, file: At) -> Iterator[Box | Finding | PassedOver]:
    """Objects with a box; one that neither has a box nor says that it needs none is malformed."""
    for number, thing in enumerate(root.findall("object")):
        at = file.inside("object", str(number))
        chains = [(name.text or "").strip() for name in thing.findall("name")]
        try:
            if thing.find("bndbox") is not None:
                yield Box(str(number), chains, zero_based(thing), at)
            elif "1" in (thing.findtext("scene", "").strip(), thing.findtext("nobndbox", "").strip()):
                yield PassedOver("regions", 1, "without a box, as its own flag says")
            else:
                raise ValueError("neither a box nor a flag that says why")
        except ValueError as error:
            record = tostring(thing, "unicode")
            yield reject("regions", f"{picture}/{number}", "malformed", at, record, str(error))


def zero_based(thing: Element) -> tuple[float, float, float, float]:
    """1-based corners, both inside the box → x, y, w, h with the first pixel at 0. ValueError if none."""
    corners = (float(thing.findtext(f"bndbox/{name}", "")) for name in ("xmin", "ymin", "xmax", "ymax"))
    x0, y0, x1, y1 = corners
    return x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1


def _captions(source: Source, picture: str, unrelated: set[str]) -> Iterator[Caption | Finding]:
    path = source.root / f"Sentences/{picture}.txt"
    file = source.at(path)
    try:
        found = lines(path)
    except RawDataError as error:
        yield _unusable("texts", picture, file, error)
        return
    for number, line in enumerate(found):
        text, at = f"{picture}#{number}", file.inside(str(number))
        if text in unrelated:
            yield reject("texts", text, "unrelated_caption", at, line)
            continue
        try:
            yield Caption(text, *unmarked(line), at)
        except ValueError as error:
            yield reject("texts", text, "malformed", at, line, str(error))


def unmarked(line: str) -> tuple[str, list[Phrase]]:
    """The caption as it was written, and its phrases. ValueError where markup of another form is left."""
    content, phrases, done = "", [], 0
    for match in MARKUP.finditer(line):
        chain, types, words = match.groups()
        content += line[done : match.start()]
        phrases.append(Phrase(len(content), len(content) + len(words), chain, types[1:]))
        content += words
        done = match.end()
    content += line[done:]
    if "/EN#" in content:
        raise ValueError("markup that is not [/EN#chain/type words]")
    return content, phrases


def names(captions: Sequence[Caption]) -> dict[str, str]:
    """Chain → the type that most of its phrases carry: "people", "clothing", …"""
    types: dict[str, Counter[str]] = {}
    for caption in captions:
        for phrase in caption.phrases:
            types.setdefault(phrase.chain, Counter()).update([phrase.types.split("/")[0]])
    common = {chain: counted.most_common(1)[0][0] for chain, counted in types.items()}
    return {chain: name for chain, name in common.items() if name not in NAMELESS}


def _regions(picture: str, boxes: Sequence[Box], named: Mapping[str, str]) -> Iterator[Region]:
    for box in boxes:
        name = next((named[chain] for chain in box.chains if chain in named), "")
        yield Region(picture, box.region, *box.xywh, name, [], False, [], *box.at)


def _texts(
    picture: str, split: str, captions: Sequence[Caption], boxes: Sequence[Box]
) -> Iterator[Text | Entity]:
    """Captions, and an entity a phrase, linked to every box of its chain."""
    for text, content, phrases, at in captions:
        yield Text(text, picture, "caption", content, None, "", [], [], [], [], split, *at)
        for start, end, chain, types in phrases:
            regions = [box.region for box in boxes if chain in box.chains]
            span = f"{start}:/EN#{chain}/{types}"  # two phrases of a caption may be marked alike
            yield Entity(text, start, end, span, None, regions, "annotated", *at)
