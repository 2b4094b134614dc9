"""GQA: balanced or all questions with scene graphs. cs.stanford.edu/people/dorarad/gqa/download.html

Questions carry spans over `question.split()`: key "a" is token a, key "a:b" tokens a..b-1, value an object
of the picture's scene graph. Question ids are strings (half of them begin with 0). Scene graphs of testdev
and test are withheld, and so are answers of test.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Raw, Struct

from contract.params import Strict, convert
from data_pipeline.reading.json_stream import DECODE_ERRORS, Int32, decode_each, members_of_object, problem
from data_pipeline.reading.sources import At, Source, flag, reject
from data_pipeline.tables import Entity, Finding, Image, Region, Row, Text

WITHHELD = ("testdev", "test", "challenge", "submission")  # splits without scene graphs
TOKEN = re.compile(r"\S+")  # the tokens of str.split(), with their places
OFFICIAL = "questions1.2.zip of the GQA site"
FOLDERS = ("", "questions1.2/", "questions/")
PARTS = 10  # files of train_all_questions/
GLUED = "?,."  # punctuation that sticks to the last token of a span
LONGEST_KEY = 20  # no text has so many tokens; int() refuses thousands of digits
NOWHERE = (-1, -1)


class Options(Strict, frozen=True):
    """`options:` of the dataset in params.yaml. scene_graphs: without them spans have no boxes."""

    questions: str = "balanced"  # or "all"
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
    objects: dict[str, Raw] = {}


_question = msgspec.json.Decoder(Question)
_graph = msgspec.json.Decoder(SceneGraph)
_object = msgspec.json.Decoder(Object)


def read(source: Source) -> Iterator[Row]:
    """Scene graphs, then questions, of each split that the drop's `shards` names."""
    options = convert(dict(source.options), Options, f"{source.where}.options")
    _note_other_splits(source, options)
    for split in source.splits:
        pictures: set[str] = set()
        if options.scene_graphs and split not in WITHHELD:
            yield from _scene_graphs(source, split, pictures)
        for path in _question_files(source, split, options.questions):
            yield from _questions(source, split, path, pictures)


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


def _scene_graphs(source: Source, split: str, pictures: set[str]) -> Iterator[Row]:
    name = f"{split}_sceneGraphs.json"
    path = source.find(name, f"sceneGraphs/{name}", official="sceneGraphs.zip of the GQA site")
    for picture, raw in members_of_object(path):
        at = At(path.name, f"/{picture}")
        try:
            graph = _graph.decode(raw)
        except DECODE_ERRORS as error:
            yield flag("images", picture, "malformed", at, raw, problem(error))
            continue
        pictures.add(picture)
        yield _image(source, picture, split, at, graph.width, graph.height)
        yield from _regions(picture, graph, at)


def _regions(picture: str, graph: SceneGraph, at: At) -> Iterator[Region | Finding]:
    objects = decode_each(list(graph.objects.values()), _object)
    for (name, raw), (_, found, wrong) in zip(graph.objects.items(), objects, strict=True):
        here = at.inside(f"objects/{name}")
        if found is None:
            yield reject("regions", f"{picture}/{name}", "malformed", here, raw, wrong)
            continue
        box = (found.x, found.y, found.w, found.h)
        yield Region(picture, name, *box, found.name, found.attributes, False, [], *here)


def _questions(source: Source, split: str, path: Path, pictures: set[str]) -> Iterator[Row]:
    for name, raw in members_of_object(path):
        at = At(path.name, f"/{name}")
        try:
            found = _question.decode(raw)
        except DECODE_ERRORS as error:
            yield reject("texts", name, "malformed", at, raw, problem(error))
            continue
        if found.imageId not in pictures:
            pictures.add(found.imageId)
            yield _image(source, found.imageId, split, at)
        yield from _texts(name, found, split, at)


def _texts(name: str, found: Question, split: str, at: At) -> Iterator[Text | Entity]:
    """The question, and its full answer as a statement that is true of the picture."""
    kind = f"{found.types.structural}/{found.types.semantic}" if found.types else ""
    spans = found.annotations or Annotations()
    yield Text(
        name, found.imageId, "question", found.question, found.answer, kind, [], [], [], [], split, *at
    )
    yield from _entities(name, found.question, spans.question, at)
    if found.fullAnswer is not None:
        full = f"{name}.full"
        yield Text(full, found.imageId, "statement", found.fullAnswer, None, kind, [], [], [], [], split, *at)
        yield from _entities(full, found.fullAnswer, spans.fullAnswer, at)


def _entities(text: str, content: str, spans: dict[str, str], at: At) -> Iterator[Entity]:
    if not spans:
        return
    tokens = content.split()
    evenly = len(" ".join(tokens)) == len(content)  # every real text is; else look the tokens up
    places = None if evenly else [match.start() for match in TOKEN.finditer(content)]
    for key, region in spans.items():
        start, end = token_span(tokens, key, places)
        yield Entity(text, start, end, key, None, [region], "annotated", *at)


def token_span(tokens: Sequence[str], key: str, places: Sequence[int] | None = None) -> tuple[int, int]:
    """Span key → characters [start, end), without trailing punctuation; (-1, -1) if it lies nowhere.

    tokens: `text.split()`. places: where each starts, if more than one space separates some.
    """
    first, colon, last = key.partition(":")
    if not (first.isdecimal() and (last.isdecimal() if colon else True)) or len(key) > LONGEST_KEY:
        return NOWHERE
    a, b = int(first), int(last) if colon else int(first) + 1
    if not a < b <= len(tokens):
        return NOWHERE
    if places is None:
        start = len(" ".join(tokens[:a])) + bool(a)
        length = len(" ".join(tokens[a:b]))
    else:
        start = places[a]
        length = places[b - 1] + len(tokens[b - 1]) - start
    bare = length - len(tokens[b - 1]) + len(tokens[b - 1].rstrip(GLUED))
    return (start, start + bare) if bare > 0 else NOWHERE


def _image(
    source: Source, picture: str, split: str, at: At, width: int | None = None, height: int | None = None
) -> Image:
    file = source.file(f"images/{picture}.jpg")
    return Image(picture, file, source.drop, split, width, height, _source_ids(picture), *at)


def _source_ids(picture: str) -> list[str]:
    """Digits are a Visual Genome id, n<digits> a COCO one."""
    if picture.startswith("n") and picture[1:].isdecimal():
        return [f"coco:{picture[1:].lstrip('0') or '0'}"]
    return [f"vg:{picture}"] if picture.isdecimal() else [f"gqa:{picture}"]
