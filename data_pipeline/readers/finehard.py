"""FineHARD: captions, boxed phrases, false phrases. huggingface.co/datasets/qihoo360/FineHARD

What FG-CLIP trains on. `jsonfiles/*.json` or `.jsonl` hold pictures, each with a long and a short caption and
boxes in shares of the picture, whose size is not declared; a box has a short and a long phrase. The false
texts belong to the short one and count where `flag_short_neg` says so. There are no official splits.
"""

from collections.abc import Iterator
from posixpath import splitext
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from contract.params import Strict, convert
from data_pipeline.reading.json_lines import record_files, records
from data_pipeline.reading.json_stream import DECODE_ERRORS, Key, decode_each, id_of, keyed, problem
from data_pipeline.reading.sources import At, Source, flag, reject
from data_pipeline.tables import Finding, Image, NegativeText, Region, Row, Text

OFFICIAL = "the folder jsonfiles of huggingface.co/datasets/qihoo360/FineHARD"
PREFIX = "grit-20m/data-12m/"  # where the pictures lay when the files were made


class Options(Strict, frozen=True):
    """FineHARD takes no options."""


class Picture(Struct):
    f_path: str
    caption: str
    short_caption: str | None = None
    bbox_info: list[Raw] | None = None


class Boxed(Struct):
    """A box, x0, y0, x1, y1 in shares of the picture (a detector's score may follow), and its phrases."""

    bbox: Annotated[list[float], Meta(min_length=4)]
    short_expr: str | None = None
    long_expr: str | None = None
    flag_short_neg: int | None = None
    short_expr_negs: dict[Key, str] | None = None


_picture = msgspec.json.Decoder(Picture)
_boxed = keyed(Boxed)


def read(source: Source) -> Iterator[Row]:
    """Each picture with its captions, then its boxes with their phrases."""
    convert(dict(source.options), Options, f"{source.where}.options")
    folder = source.find("jsonfiles", official=OFFICIAL)
    for file in record_files(folder) or ["*.json"]:  # or the error of find
        path = source.find(f"jsonfiles/{file}", official=OFFICIAL)
        for number, raw in records(path):
            at = source.at(path).inside(number)
            try:
                found = _picture.decode(raw)
            except DECODE_ERRORS as error:
                name = id_of(raw, "f_path") or at.name
                wrong = f"{problem(error)}; its captions and boxes are lost with it"
                yield reject("images", name, "malformed", at, raw, wrong)
                continue
            yield from _rows(source, found, at)


def _rows(source: Source, found: Picture, at: At) -> Iterator[Row]:
    file = found.f_path.removeprefix(PREFIX)
    picture, _ = splitext(file)
    yield Image(picture, source.file(file), "", None, None, [f"finehard:{picture}"], *at)
    for kind, content in (("long", found.caption), ("short", found.short_caption)):
        if content is not None:
            text = f"{picture}#{kind}"
            yield Text(text, picture, "caption", content, None, kind, [], [], [], [], "", *at)
    boxes = found.bbox_info or []
    for number, boxed, wrong in decode_each(boxes, _boxed):
        here = at.inside("bbox_info", str(number))
        if boxed is None:
            wrong += "; its phrases are lost with it"
            yield reject("regions", f"{picture}/{number}", "malformed", here, boxes[number], wrong)
        else:
            yield from _boxed_rows(picture, str(number), boxed, here)


def _boxed_rows(picture: str, region: str, boxed: Boxed, at: At) -> Iterator[Region | Text | Finding]:
    x0, y0, x1, y1 = boxed.bbox[:4]
    yield Region(picture, region, x0, y0, x1 - x0, y1 - y0, "", [], False, [], *at, normalised=True)
    given = list((boxed.short_expr_negs or {}).values())
    false = [NegativeText(content, "given") for content in given if boxed.flag_short_neg]
    if len(false) < len(given):
        name = f"{picture}#{region}.short"
        yield flag("texts", name, "negatives_withheld", at, given, f"{len(given)} of them")
    for kind, content in (("short", boxed.short_expr), ("long", boxed.long_expr)):
        if content is not None:
            text, own = f"{picture}#{region}.{kind}", false if kind == "short" else []
            yield Text(text, picture, "phrase", content, None, kind, [], [], [region], own, "", *at)
