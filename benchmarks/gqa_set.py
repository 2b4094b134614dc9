"""GQA files of the official form and of any size, drawn from a seed: what the reading benchmark reads.

Records are as large as the real ones, or a little larger: 1 KB a question with 1.3 spans and a full answer
with 1.3, 3.6 KB a scene graph with 15 objects and 45 relations.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from contract.files import atomic_path
from contract.seeds import rng

Json = dict[str, Any]
QUESTIONS, PICTURES = 943_000, 72_000  # train_balanced and its scene graphs
OBJECTS, RELATIONS = 15, 3  # of a picture, of an object
FIRST_PICTURE, FIRST_OBJECT, FIRST_QUESTION = 2_315_001, 700_000, 1_000_000
NAMES = ("man", "woman", "chair", "table", "wall", "window", "tree", "shirt", "car", "sky", "dog", "fence")
COLOURS = ("white", "black", "green", "blue", "brown", "red")
PLACES = ("to the left of", "to the right of", "in front of", "behind", "near", "on top of")


def write(folder: Path, size: float, seed: int) -> None:
    """The two files of split train, `size` times as large as the official ones."""
    questions, pictures = round(QUESTIONS * size), round(PICTURES * size)
    _write(folder / "train_sceneGraphs.json", _graphs(pictures, seed))
    _write(folder / "train_balanced_questions.json", _questions(questions, pictures, seed))


def _write(path: Path, members: Iterable[tuple[str, Json]]) -> None:
    """One JSON object, spaced as json.dump does it."""
    with atomic_path(path) as beside, beside.open("w") as file:
        for number, (key, value) in enumerate(members):
            file.write(f'{", " if number else "{"}"{key}": {json.dumps(value)}')
        file.write("}")


def _graphs(pictures: int, seed: int) -> Iterator[tuple[str, Json]]:
    draws = rng(seed, "benchmark", "graphs").integers(0, 1 << 30, (pictures, OBJECTS, 3)).tolist()
    for number, drawn in enumerate(draws):
        objects = {_object_id(number, n): _object(number, n, *row) for n, row in enumerate(drawn)}
        yield str(FIRST_PICTURE + number), {"width": 640, "height": 480, "objects": objects}


def _object(picture: int, number: int, a: int, b: int, c: int) -> Json:
    near = [_object_id(picture, (number + step) % OBJECTS) for step in range(1, RELATIONS + 1)]
    return {
        "name": _of(NAMES, a),
        "h": 20 + b % 200,
        "relations": [{"object": key, "name": _of(PLACES, a + n)} for n, key in enumerate(near)],
        "w": 20 + c % 200,
        "attributes": [_of(COLOURS, b)] if a % 2 else [],
        "y": a % 260,
        "x": b % 420,
    }


def _questions(count: int, pictures: int, seed: int) -> Iterator[tuple[str, Json]]:
    """In the files' order: neighbours are questions about different pictures."""
    draws = rng(seed, "benchmark", "questions").integers(0, 1 << 30, (count, 4)).tolist()
    for number, (picture, a, b, c) in enumerate(draws):
        record = (_which if c % 3 else _is_there)(picture % pictures, a, b, c)
        yield _question_id(number), record | _company(number, count)


def _which(picture: int, a: int, b: int, c: int) -> Json:
    one, other, place, colour = _of(NAMES, a), _of(NAMES, b), _of(PLACES, c), _of(COLOURS, a + b)
    asked = f"What is the piece of furniture that is {place} the {colour} {other}?"
    first, full = len(asked.split()) - 2, len(place.split()) + 4
    spans = {
        "answer": {"0": _object_id(picture, a)},
        "fullAnswer": {"1": _object_id(picture, a), f"{full - 1}": _object_id(picture, b)},
        "question": {f"{first}:{first + 2}": _object_id(picture, b), "3:6": _object_id(picture, a)},
    }
    steps = [
        f"select: {other} (16)",
        f"filter color: {colour}",
        f"relate: {one},{place},s (17)",
        "query: name",
    ]
    answers = {"answer": one, "fullAnswer": f"The {one} is {place} the {other}."}
    return _record(picture, asked, "query", spans, steps) | answers


def _is_there(picture: int, a: int, b: int, c: int) -> Json:
    one, other = _of(NAMES, a), _of(NAMES, b)
    spans: Json = {"answer": {}, "fullAnswer": {}, "question": {}}
    answers = {"answer": "yes", "fullAnswer": f"Yes, there is a {one} beside a {other}."}
    steps = [f"select: {one} (-)", "exist: ?", f"select: {other} (-)", "exist: ?", "or: "]
    return _record(picture, f"Is there either a {one} or a {other}?", "logical", spans, steps) | answers


def _record(picture: int, asked: str, structural: str, spans: Json, steps: list[str]) -> Json:
    semantic = [_step(number, *step.split(": ", 1)) for number, step in enumerate(steps)]
    return {
        "annotations": spans,
        "imageId": str(FIRST_PICTURE + picture),
        "isBalanced": True,
        "question": asked,
        "semantic": semantic,
        "semanticStr": "->".join(steps),
        "types": {"detailed": "categoryRelS", "semantic": "rel", "structural": structural},
    }


def _step(number: int, operation: str, argument: str) -> Json:
    return {"argument": argument, "dependencies": [number - 1] if number else [], "operation": operation}


def _company(number: int, count: int) -> Json:
    others = [_question_id((number + step) % count) for step in range(1, 6)]
    groups = {"global": "furniture" if number % 4 else None, "local": "15-wall_in front of,s"}
    return {"entailed": others, "equivalent": [_question_id(number)], "groups": groups}


def _question_id(number: int) -> str:
    """Every second one begins with 0."""
    return f"{'0' if number % 2 else ''}{FIRST_QUESTION + number}"


def _object_id(picture: int, number: int) -> str:
    return str(FIRST_OBJECT + picture * OBJECTS + number % OBJECTS)


def _of(words: tuple[str, ...], draw: int) -> str:
    return words[draw % len(words)]
