"""GQA: balanced or all questions with scene graphs. cs.stanford.edu/people/dorarad/gqa/download.html

Questions carry spans over `question.split()`: key "a" is token a, key "a:b" tokens a..b-1, value an object
of the picture's scene graph. Question ids are strings (half of them begin with 0). Scene graphs of testdev
and test are withheld, and so are answers of test.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

from contract.params import Strict, convert
from data_pipeline.reading.json_stream import (
    DECODE_ERRORS,
    Int32,
    Key,
    decode_each,
    keyed,
    members_of_object,
    problem,
)
from data_pipeline.reading.sources import At, Source, pointer, reject
from data_pipeline.tables import Block, Entity, Finding, Image, Region, Row, Text

WITHHELD = ("testdev", "test", "challenge", "submission")  # splits without scene graphs
TOKEN = re.compile(r"\S+")  # the tokens of str.split(), with their places
OFFICIAL = "questions1.2.zip of the GQA site"
FOLDERS = ("", "questions1.2/", "questions/")
PARTS = 10  # files of train_all_questions/
GLUED = "?,."  # punctuation that sticks to the last token of a span
LONGEST_KEY = 20  # no text has so many tokens; int() refuses thousands of digits
NOWHERE = (-1, -1)
AT_ONCE = 1 << 12  # records that become a block of rows
TEXT = ("text", "picture", "role", "content", "answer", "type", "position")
ENTITY = ("text", "start", "end", "span", "regions", "position")
REGION = ("picture", "region", "x", "y", "w", "h", "name", "attributes", "position")
LISTS = ("target", "members", "about", "negatives")  # columns that GQA leaves empty
Cells = tuple[Any, ...]


class Options(Strict, frozen=True):
    """`options:` of the dataset in params.yaml. scene_graphs: without them spans have no boxes."""

    questions: Literal["balanced", "all"] = "balanced"
    scene_graphs: bool = True


class Types(Struct):
    structural: str = ""
    semantic: str = ""


class Annotations(Struct):
    question: dict[str, str] = {}
    fullAnswer: dict[str, str] = {}  # noqa: N815 the file's own name


class Question(Struct):
    question: str
    imageId: str  # noqa: N815
    answer: str | None = None
    fullAnswer: str | None = None  # noqa: N815
    types: Types | None = None
    annotations: Annotations | None = None


class Object(Struct):
    x: float
    y: float
    w: float
    h: float
    name: str = ""
    attributes: list[str] = []


class SceneGraph(Struct):
    width: Int32
    height: Int32
    objects: dict[Key, Object] = {}


class UnsureGraph(Struct):
    """A scene graph whose objects are decoded one by one, as one of them is not sound."""

    width: Int32
    height: Int32
    objects: dict[Key, Raw] = {}


NO_SPANS = Annotations()
_question = msgspec.json.Decoder(Question)
_graph = keyed(SceneGraph)
_unsure = keyed(UnsureGraph)
_object = msgspec.json.Decoder(Object)


def read(source: Source) -> Iterator[Row | Block]:
    """Scene graphs, then questions, of each split that the drop's `shards` names."""
    options = convert(dict(source.options), Options, f"{source.where}.options")
    _note_other_splits(source, options)
    texts: set[str] = set()
    for split in source.splits:
        pictures: set[str] = set()
        if options.scene_graphs and split not in WITHHELD:
            yield from _scene_graphs(source, split, pictures)
        for path in _question_files(source, split, options.questions):
            yield from _questions(source, split, path, pictures, texts)


def _question_files(source: Source, split: str, questions: str) -> list[Path]:
    """One file, or the ten parts of train_all_questions."""
    name = f"{split}_{questions}_questions"
    places = [f"{folder}{name}{kind}" for kind in (".json", "") for folder in FOLDERS]
    found = source.find(*places, official=OFFICIAL)
    if not found.is_dir():
        return [found]
    folder = found.relative_to(source.root)
    return [source.find(str(folder / f"{name}_{part}.json"), official=OFFICIAL) for part in range(PARTS)]


def _note_other_splits(source: Source, options: Options) -> None:
    """A split's file that `shards` does not name is left alone, and said."""
    ending = f"_{options.questions}_questions"
    places = [f"{folder}*{ending}{kind}" for folder in FOLDERS for kind in ("", ".json")]
    files = {path.name for place in places for path in source.root.glob(place)}
    there = {name.removesuffix(".json").removesuffix(ending) for name in files}
    if others := sorted(there.difference(source.splits)):
        source.note(f"not read, as no drop's shards names it: {', '.join(others)}")


def _scene_graphs(source: Source, split: str, pictures: set[str]) -> Iterator[Row | Block]:
    name = f"{split}_sceneGraphs.json"
    path = source.find(name, f"sceneGraphs/{name}", official="sceneGraphs.zip of the GQA site")
    file = source.at(path)
    shared = {"crowd": False, "mask": [], "drop": file.drop, "source_file": file.source_file}
    members = members_of_object(path)
    while some := list(islice(members, AT_ONCE)):
        regions: list[Cells] = []
        for picture, raw in some:
            at = file.inside(picture)
            try:
                graph, spoiled = _graph_of(picture, raw, at)
            except DECODE_ERRORS as error:
                yield reject("regions", picture, "malformed", at, raw, problem(error))
                continue
            pictures.add(picture)
            yield _image(source, picture, split, at, graph.width, graph.height)
            yield from spoiled
            regions += _regions(picture, graph, at.inside("objects").position)
        yield Block(Region, REGION, regions, shared)


def _graph_of(picture: str, raw: Raw, at: At) -> tuple[SceneGraph, list[Finding]]:
    """A scene graph with its sound objects, and the findings of the others."""
    try:
        return _graph.decode(raw), []
    except DECODE_ERRORS:
        unsure = _unsure.decode(raw)
    graph, spoiled = SceneGraph(unsure.width, unsure.height), []
    objects = decode_each(list(unsure.objects.values()), _object)
    for (key, one), (_, found, wrong) in zip(unsure.objects.items(), objects, strict=True):
        if found is None:
            here = at.inside("objects", key.text)
            spoiled.append(reject("regions", f"{picture}/{key.text}", "malformed", here, one, wrong))
        else:
            graph.objects[key] = found
    return graph, spoiled


def _regions(picture: str, graph: SceneGraph, place: str) -> list[Cells]:
    return [
        (picture, key.text, one.x, one.y, one.w, one.h, one.name, one.attributes, place + pointer(key.text))
        for key, one in graph.objects.items()
    ]


def _questions(
    source: Source, split: str, path: Path, pictures: set[str], names: set[str]
) -> Iterator[Row | Block]:
    """names: ids of the drop's questions so far."""
    file = source.at(path)
    shared = {"drop": file.drop, "source_file": file.source_file}
    of_texts = {"split": split, **dict.fromkeys(LISTS, []), **shared}
    of_entities = {"name": None, "source": "annotated", **shared}
    members = members_of_object(path)
    while some := list(islice(members, AT_ONCE)):
        texts: list[Cells] = []
        entities: list[Cells] = []
        for name, raw in some:
            found = _question_of(name, raw, file, names)
            if isinstance(found, Finding):
                yield found
                continue
            if found.imageId not in pictures:
                pictures.add(found.imageId)
                yield _image(source, found.imageId, split, file.inside(name))
            _add_texts(name, found, texts, entities)
        yield Block(Text, TEXT, texts, of_texts)
        yield Block(Entity, ENTITY, entities, of_entities)


def _question_of(name: str, raw: Raw, file: At, names: set[str]) -> Question | Finding:
    """The record, or why it is left out. names: as in _questions."""
    if name in names:
        return reject("texts", name, "duplicate_id", file.inside(name), raw)
    names.add(name)
    try:
        return _question.decode(raw)
    except DECODE_ERRORS as error:
        return reject("texts", name, "malformed", file.inside(name), raw, problem(error))


def _add_texts(name: str, found: Question, texts: list[Cells], entities: list[Cells]) -> None:
    """The question, and its full answer as a statement that is true of the picture."""
    kind = f"{found.types.structural}/{found.types.semantic}" if found.types else ""
    position = pointer(name)
    spans = found.annotations or NO_SPANS
    texts.append((name, found.imageId, "question", found.question, found.answer, kind, position))
    if spans.question:
        entities += _entities(name, found.question, spans.question, position)
    if found.fullAnswer is not None:
        full = f"{name}.full"
        texts.append((full, found.imageId, "statement", found.fullAnswer, None, kind, position))
        if spans.fullAnswer:
            entities += _entities(full, found.fullAnswer, spans.fullAnswer, position)


def _entities(text: str, content: str, spans: dict[str, str], position: str) -> list[Cells]:
    tokens = content.split()
    evenly = len(" ".join(tokens)) == len(content)  # every real text is; else look the tokens up
    places = None if evenly else [match.start() for match in TOKEN.finditer(content)]
    return [
        (text, *token_span(tokens, key, places), key, [region], position) for key, region in spans.items()
    ]


def token_span(tokens: Sequence[str], key: str, places: Sequence[int] | None = None) -> tuple[int, int]:
    """Span key → characters [start, end), without trailing punctuation; (-1, -1) if it lies nowhere.

    tokens: `text.split()`. places: where each starts, if more than one space separates some.
    """
    a, b = _token_range(key)
    if not a < b <= len(tokens):
        return NOWHERE
    if places is None:
        start = len(" ".join(tokens[:a])) + bool(a)
        end = start + len(" ".join(tokens[a:b]).rstrip(GLUED))
    else:
        start = places[a]
        end = places[b - 1] + len(tokens[b - 1].rstrip(GLUED))
    return (start, end) if end > start else NOWHERE


@lru_cache(maxsize=1 << 12)
def _token_range(key: str) -> tuple[int, int]:
    """Tokens [a, b) of a key; empty if it is none."""
    first, colon, last = key.partition(":")
    if not (first.isdecimal() and (last.isdecimal() if colon else True)) or len(key) > LONGEST_KEY:
        return (0, 0)
    return int(first), int(last) if colon else int(first) + 1


def _image(
    source: Source, picture: str, split: str, at: At, width: int | None = None, height: int | None = None
) -> Image:
    file = source.file(f"images/{picture}.jpg")
    return Image(picture, file, split, width, height, _source_ids(picture), *at)


def _source_ids(picture: str) -> list[str]:
    """Digits are a Visual Genome id, n<digits> a COCO one."""
    if picture.startswith("n") and picture[1:].isdecimal():
        return [f"coco:{picture[1:].lstrip('0') or '0'}"]
    return [f"vg:{picture}"] if picture.isdecimal() else [f"gqa:{picture}"]
