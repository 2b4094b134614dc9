"""RefCOCO, RefCOCO+ and RefCOCOg: phrases that name one object. github.com/lichengunc/refer

`refs(<split_by>).p` is a Python 2 pickle of expressions without boxes: `ann_id` names an annotation of
instances.json beside it. Every annotation of a picture becomes a region; an expression describes its region
as a whole and is one span over all of its text. The `file_name` of an expression is no file: the photos,
COCO's train2014, are those that instances.json names.

A split belongs to the expression. A picture with expressions of several splits (RefCOCOg, split by google)
is declared in each of them, and stage images lets evaluation win.
"""

import reprlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Struct

from contract.errors import RawDataError
from contract.params import Strict, convert
from data_pipeline.reading import plain_pickle
from data_pipeline.reading.coco_instances import Id, Picture, category_names, open_file, pictures, regions
from data_pipeline.reading.coco_masks import Size
from data_pipeline.reading.json_stream import problem
from data_pipeline.reading.sources import At, Source, reject
from data_pipeline.tables import Entity, Finding, Image, PassedOver, Region, Row, Text

OFFICIAL = "the RefCOCO download of github.com/lichengunc/refer"
MOST_SENTENCES = 1000  # of one expression; the official ones have a few
T = TypeVar("T")


class Options(Strict, frozen=True):
    """`options:` of the dataset in params.yaml."""

    split_by: Literal["unc", "umd", "google"]  # RefCOCO and RefCOCO+: unc, google; RefCOCOg: umd, google
    pictures: str = "images/mscoco/images/train2014"  # the photos' folder inside the drop


class Sentence(Struct):
    """sent: lower case, punctuation set apart; what published models read. `raw` is as somebody typed it."""

    sent_id: Id
    sent: str

    def __post_init__(self) -> None:
        self.sent.encode()  # half a surrogate pair, which a pickle can hold, is an error here


class Expression(Struct):
    """What people call one object."""

    ref_id: Id
    ann_id: Id
    image_id: Id
    split: str
    sentences: Annotated[list[Any], Meta(max_length=MOST_SENTENCES)]

    @property
    def region(self) -> str:
        return f"{self.image_id}/{self.ann_id}"


class Located(NamedTuple):
    at: At
    expression: Expression


def read(source: Source) -> Iterator[Row | PassedOver]:
    """Pictures, boxes, then expressions, of the splits that the drop's `shards` names."""
    options = convert(dict(source.options), Options, f"{source.where}.options")
    refs = _refs(source, options.split_by)
    every, wrong = _expressions(refs, source.at(refs))
    yield from wrong
    _note_other_splits(source, every)
    chosen = [found for found in every if found.expression.split in source.splits]
    yield PassedOver("texts", _sentences(every) - _sentences(chosen), "of a split that is not read")
    instances = source.find("instances.json", official=OFFICIAL)
    content, file = open_file(instances), source.at(instances)
    sizes: dict[int, Size] = {}
    listed: set[int] = set()
    splits = _splits_of_pictures(chosen, source.splits)
    for at, found in pictures(file, content):
        if isinstance(found, Finding):
            yield found
            continue
        listed.add(found.id)
        if found.id in splits:
            sizes[found.id] = found.size
            yield from _images(source, options.pictures, splits[found.id], found, at)
    _note_silent_pictures(source, listed, every)
    yield PassedOver("images", len(listed - sizes.keys()), "without an expression that is read")
    boxes = set()
    for row in regions(file, content, category_names(instances, content), sizes, others=listed):
        yield row
        if not isinstance(row, PassedOver):
            boxes.add(f"{row.picture}/{row.region}" if isinstance(row, Region) else row.id)
    for at, expression in chosen:
        lost = expression.image_id in sizes and expression.region not in boxes
        yield from _phrases(expression, lost, at)


def _refs(source: Source, split_by: str) -> Path:
    there = ", ".join(sorted(path.name for path in source.root.glob("refs(*).p"))) or "no refs"
    official = f"{OFFICIAL} (there: {there}; options.split_by names one)"
    return source.find(f"refs({split_by}).p", official=official)


def _expressions(path: Path, file: At) -> tuple[list[Located], list[Finding]]:
    """Every expression of the file once, and what is wrong with the others."""
    refs = plain_pickle.load(path)
    if not isinstance(refs, list):
        raise RawDataError(path, "has another form", found=type(refs).__name__, expected="a list")
    sound: dict[int, Located] = {}
    findings = []
    for number, ref in enumerate(refs):
        at = file.inside(str(number))
        found, wrong = _convert(ref, Expression)
        if found is None:
            findings.append(reject("texts", at.name, "malformed", at, reprlib.repr(ref), wrong))
        elif found.ref_id in sound:
            name = f"ref {found.ref_id}"
            findings.append(reject("texts", name, "duplicate_id", at, reprlib.repr(ref)))
        else:
            sound[found.ref_id] = Located(at, found)
    return list(sound.values()), findings


def _convert(plain: object, form: type[T]) -> tuple[T | None, str]:
    """(value or None, problem) of a record out of the pickle."""
    try:
        return msgspec.convert(plain, form), ""
    except (msgspec.ValidationError, RecursionError) as error:
        return None, problem(error)


def _sentences(located: Iterable[Located]) -> int:
    return sum(len(found.expression.sentences) for found in located)


def _note_other_splits(source: Source, every: Iterable[Located]) -> None:
    there = {found.expression.split for found in every}
    if others := sorted(there.difference(source.splits)):
        source.note(f"not read, as no drop's shards names it: {', '.join(others)}")


def _note_silent_pictures(source: Source, listed: set[int], every: Iterable[Located]) -> None:
    if silent := listed.difference(found.expression.image_id for found in every):
        source.note(f"{len(silent):,} pictures of instances.json have no expression and are not read")


def _splits_of_pictures(chosen: Iterable[Located], order: tuple[str, ...]) -> dict[int, list[str]]:
    """Picture → the splits of its expressions, in the order of `shards`."""
    held: dict[int, set[str]] = {}
    for _, found in chosen:
        held.setdefault(found.image_id, set()).add(found.split)
    return {picture: [split for split in order if split in splits] for picture, splits in held.items()}


def _images(source: Source, folder: str, splits: list[str], found: Picture, at: At) -> Iterator[Image]:
    picture, ids = str(found.id), [f"coco:{found.id}"]
    for split in splits:
        file = source.file(f"{folder}/{found.file_name}")
        yield Image(picture, file, split, found.width, found.height, ids, *at)


def _phrases(found: Expression, lost: bool, at: At) -> Iterator[Text | Entity | Finding]:
    """lost: instances.json has no such annotation of the picture."""
    for index, plain in enumerate(found.sentences):
        here = at.inside("sentences", str(index))
        sentence, wrong = _convert(plain, Sentence)
        if sentence is None:
            yield reject("texts", here.name, "malformed", here, reprlib.repr(plain), wrong)
        elif lost:
            name, detail = str(sentence.sent_id), f"annotation {found.ann_id} of picture {found.image_id}"
            yield reject("texts", name, "unknown_region", here, msgspec.to_builtins(sentence), detail)
        else:
            yield from _phrase(found, sentence, here)


def _phrase(found: Expression, sentence: Sentence, at: At) -> Iterator[Text | Entity]:
    name, content, about = str(sentence.sent_id), sentence.sent, [str(found.ann_id)]
    picture, split = str(found.image_id), found.split
    yield Text(name, picture, "phrase", content, None, "", [], [], about, [], split, *at)
    end = len(content.rstrip())
    start = min(end, len(content) - len(content.lstrip()))
    yield Entity(name, start, end, "whole", None, about, "annotated", *at)
