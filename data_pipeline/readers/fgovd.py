"""FG-OVD as FG-CLIP reads it: a boxed object, its true phrase, ten false ones. github.com/360CVGroup/FG-CLIP

`{h,m,e}_attributes_llava.jsonl` and `shuffle_negatives_llava.jsonl` differ in how hard the false phrases
are; the same boxes come back in several of them. The pictures are COCO's, of train2017 as well as val2017,
so the folder is no split: all rows belong to the one split that the drop's `shards` names.
"""

from collections.abc import Iterator
from posixpath import splitext
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from contract.errors import ParamsError
from contract.params import Strict, convert
from data_pipeline.reading.json_lines import record_files, records
from data_pipeline.reading.json_stream import DECODE_ERRORS, Int32, problem
from data_pipeline.reading.sources import At, Source, flag, reject
from data_pipeline.tables import Finding, Image, NegativeText, Region, Row, Text

OFFICIAL = "the FG-OVD files that the README of github.com/360CVGroup/FG-CLIP names"
NEGATIVES = 10


class Options(Strict, frozen=True):
    """FG-OVD takes no options."""


class Expression(Struct):
    """A row; bbox: x, y, w, h in pixels."""

    img_path: str
    image_id: int
    width: Int32
    height: Int32
    bbox: Annotated[list[float], Meta(min_length=4, max_length=4)]
    pos_expression: Annotated[list[str], Meta(min_length=1, max_length=1)]
    neg_expression: list[str]
    test_type: str = ""


_expression = msgspec.json.Decoder(Expression)


def read(source: Source) -> Iterator[Row]:
    """Files by name; a picture and a box come with the first row that names them."""
    convert(dict(source.options), Options, f"{source.where}.options")
    split = _only_split(source)
    pictures: dict[str, set[str]] = {}  # → their boxes so far
    for name in record_files(source.root, "*_llava") or ["e_attributes_llava.jsonl"]:
        path = source.find(name, official=OFFICIAL)
        for number, raw in records(path):
            text, at = source.file(f"{path.stem}/{number}"), source.at(path).inside(number)
            try:
                found = _expression.decode(raw)
            except DECODE_ERRORS as error:
                yield reject("texts", text, "malformed", at, raw, problem(error))
                continue
            yield from _rows(source, split, text, found, raw, at, pictures)


def _only_split(source: Source) -> str:
    if len(source.splits) != 1:
        raise ParamsError(
            f"{source.where}.raw[{source.drop}].shards",
            "the rows of FG-OVD name no split",
            found=", ".join(source.splits) or "none",
            expected="one split for all of them, such as `test: 2`",
        )
    return source.splits[0]


def _rows(
    source: Source,
    split: str,
    text: str,
    found: Expression,
    raw: Raw,
    at: At,
    pictures: dict[str, set[str]],
) -> Iterator[Image | Region | Text | Finding]:
    picture, _ = splitext(found.img_path)
    if picture not in pictures:
        pictures[picture] = set()
        file, ids = source.file(found.img_path), [f"coco:{found.image_id}"]
        yield Image(picture, file, split, found.width, found.height, ids, *at)
    region, (x, y, w, h) = ",".join(map(str, found.bbox)), found.bbox  # the same id in every drop
    if region not in pictures[picture]:
        pictures[picture].add(region)
        yield Region(picture, region, x, y, w, h, "", [], False, [], *at)
    if len(found.neg_expression) != NEGATIVES:
        yield flag("texts", text, "negatives_not_ten", at, raw, f"{len(found.neg_expression)}")
    false = [NegativeText(content, "given") for content in found.neg_expression]
    content, kind = found.pos_expression[0], found.test_type
    yield Text(text, picture, "phrase", content, None, kind, [], [], [region], false, split, *at)
