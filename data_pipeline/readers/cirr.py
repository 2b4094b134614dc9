"""CIRR: "this picture, but …" → that picture. github.com/Cuberick-Orion/CIRR, branch cirr_dataset

A text hangs on its reference picture and names targets and the other members of its image set. Every
picture of the split file is declared, with or without a text: the split is the gallery. The targets of
test1 are hidden.

captions_ext, if asked for, has four notes on each pair: (0) what both pictures share, (1) what changes in
the objects, (2) in the viewpoint, (3) in the background. A note is no caption of the reference, nor does it
lead to the target by itself: it is an edit without a target, of type "ext/<number>", which no task takes for
a caption or a query. A code in the place of a note ("[cr1] Covered in query") is rejected as `no_caption`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Raw, Struct

from contract.params import Strict, convert
from data_pipeline.reading.json_stream import (
    DECODE_ERRORS,
    id_of,
    members_of_array,
    members_of_object,
    problem,
)
from data_pipeline.reading.sources import At, Source, flag, reject
from data_pipeline.tables import Finding, Image, Row, Text

SET_SIZE = 6
HIDDEN = ("test1",)  # splits whose targets are withheld
CODE = re.compile(r"\s*\[c\w*\]")
OFFICIAL = "the branch cirr_dataset of github.com/Cuberick-Orion/CIRR"


class Options(Strict, frozen=True):
    """`options:` of the dataset in params.yaml."""

    captions_ext: bool = False  # the notes of captions_ext/ too


class ImageSet(Struct):
    members: list[str]


class Pair(Struct):
    pairid: int | str
    reference: str
    caption: str
    img_set: ImageSet
    target_hard: str | None = None
    target_soft: dict[str, float] = {}


class Notes(Struct):
    pairid: int | str
    reference: str
    caption_extend: dict[str, str]


_pair = msgspec.json.Decoder(Pair)
_notes = msgspec.json.Decoder(Notes)
_file = msgspec.json.Decoder(str)


def read(source: Source) -> Iterator[Row]:
    """The gallery, then the captions, of each split that the drop's `shards` names."""
    options = convert(dict(source.options), Options, f"{source.where}.options")
    _note_other_splits(source)
    for split in source.splits:
        gallery = source.find(f"image_splits/split.rc2.{split}.json", official=OFFICIAL)
        captions = source.find(f"captions/cap.rc2.{split}.json", official=OFFICIAL)
        pictures: set[str] = set()
        yield from _gallery(source, split, gallery, pictures)
        yield from _captions(captions, source.at(captions), split, pictures)
        if options.captions_ext:
            extended = source.find(f"captions_ext/cap.ext.rc2.{split}.json", official=OFFICIAL)
            yield from _extended(extended, source.at(extended), split, pictures)


def _note_other_splits(source: Source) -> None:
    there = sorted(path.name.split(".")[2] for path in source.root.glob("captions/cap.rc2.*.json"))
    if others := [split for split in there if split not in source.splits]:
        source.note(f"not read, as no drop's shards names it: {', '.join(others)}")


def _gallery(source: Source, split: str, path: Path, pictures: set[str]) -> Iterator[Row]:
    listed = source.at(path)
    for picture, raw in members_of_object(path):
        at = listed.inside(picture)
        try:
            file = source.file(f"img_raw/{_file.decode(raw)}")
        except DECODE_ERRORS as error:
            yield reject("images", picture, "malformed", at, raw, problem(error))
            continue
        pictures.add(picture)
        yield Image(picture, file, split, None, None, [f"cirr:{picture}"], *at)


def _captions(path: Path, file: At, split: str, pictures: set[str]) -> Iterator[Row]:
    for number, raw in members_of_array(path):
        at = file.inside(number)
        try:
            pair = _pair.decode(raw)
        except DECODE_ERRORS as error:
            name = id_of(raw, "pairid") or at.name
            yield reject("texts", name, "malformed", at, raw, problem(error))
            continue
        yield from _text(pair, split, raw, at, pictures)


def _text(pair: Pair, split: str, raw: Raw, at: At, pictures: set[str]) -> Iterator[Text | Finding]:
    name = str(pair.pairid)
    if wrong := _wrong(pair, split, pictures):
        yield reject("texts", name, wrong[0], at, raw, wrong[1])
        return
    for reason, detail in _doubts(pair, pictures):
        yield flag("texts", name, reason, at, raw, detail)
    members = [member for member in pair.img_set.members if member != pair.reference]
    aims, edit = [picture for picture in targets(pair) if picture in pictures], pair.caption
    yield Text(name, pair.reference, "edit", edit, None, "", aims, members, [], [], split, *at)


def _wrong(pair: Pair, split: str, pictures: set[str]) -> tuple[str, str] | None:
    """(reason, detail) of a record that cannot be used."""
    if pair.target_hard is None and split not in HIDDEN:
        return "malformed", "no target_hard"
    if pair.target_hard == pair.reference:
        return "target_is_reference", pair.reference
    members = pair.img_set.members
    named = [pair.reference, *members, *([pair.target_hard] if pair.target_hard else [])]
    unknown = sorted({picture for picture in named if picture not in pictures})
    if unknown:
        return "unknown_picture", ", ".join(unknown)
    if len(set(members)) != SET_SIZE or len(members) != SET_SIZE:
        return "wrong_members", f"{len(set(members))} distinct of {len(members)}, not {SET_SIZE}"
    missing = [picture for picture in named if picture not in members]
    return ("wrong_members", f"the set lacks {', '.join(missing)}") if missing else None


def _doubts(pair: Pair, pictures: set[str]) -> Iterator[tuple[str, str]]:
    """(reason, detail) of what is odd about the label; target_hard stays the label."""
    if pair.target_hard is None or not pair.target_soft:
        return
    if unknown := [picture for picture in targets(pair) if picture not in pictures]:
        yield "unknown_picture", f"soft targets left out: {', '.join(unknown)}"
    if pair.target_hard not in pair.target_soft:
        yield "target_not_in_soft", f"target_soft holds {', '.join(sorted(pair.target_soft))}"
    elif pair.target_soft[pair.target_hard] != 1.0:
        yield "target_soft_score", f"{pair.target_soft[pair.target_hard]}"


def targets(pair: Pair) -> list[str]:
    """The hard target, then the other pictures with a positive soft score, best first, then by id.

    The reference itself stands in 37 of the real soft lists: it is no target.
    """
    if pair.target_hard is None:
        return []
    soft = sorted((-score, picture) for picture, score in pair.target_soft.items() if score > 0)
    return [pair.target_hard, *(p for _, p in soft if p not in (pair.target_hard, pair.reference))]


def _extended(path: Path, file: At, split: str, pictures: set[str]) -> Iterator[Text | Finding]:
    for number, raw in members_of_array(path):
        at = file.inside(number)
        try:
            notes = _notes.decode(raw)
        except DECODE_ERRORS as error:
            name = id_of(raw, "pairid") or at.name
            yield reject("texts", f"{name}.ext", "malformed", at, raw, problem(error))
            continue
        for key, content in notes.caption_extend.items():
            name, here = f"{notes.pairid}.ext{key}", at.inside("caption_extend", key)
            if reason := _wrong_note(notes.reference, content, pictures):
                yield reject("texts", name, reason, here, content)
            else:
                kind = f"ext/{key}"
                yield Text(name, notes.reference, "edit", content, None, kind, [], [], [], [], split, *here)


def _wrong_note(reference: str, content: str, pictures: set[str]) -> str:
    """The reason why a note cannot be used; "" if it can."""
    if reference not in pictures:
        return "unknown_picture"
    return "no_caption" if CODE.match(content) else ""
