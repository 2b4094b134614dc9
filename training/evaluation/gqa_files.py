"""GQA's own files: questions and choices are read, predictions are made, in the form of its eval.py.

A question file holds up to two million members. It is mapped and split in one pass; a member is decoded when
it is asked for, and only the fields that are scored.
"""

import mmap
from collections.abc import Iterable, Iterator, Set
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct

from contract.errors import MismatchError, RawDataError
from training.evaluation.metrics.gqa import Choices, Question

T = TypeVar("T")
BAD_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
QUESTION = "answer, types, groups, isBalanced; test and challenge withhold them: send --predictions instead"
CHOICES = "valid and plausible"

_members = msgspec.json.Decoder(dict[str, Raw])
_question = msgspec.json.Decoder(Question)
_choices = msgspec.json.Decoder(Choices)


class Prediction(Struct):
    """A member of the official prediction file."""

    questionId: str  # noqa: N815 the file's own name
    prediction: str


def read_questions(paths: Iterable[Path]) -> Iterator[tuple[str, Question]]:
    """(id, question) of every member of the files. RawDataError names file and member."""
    for path in paths:
        for name, raw in _members_of(path).items():
            yield name, _decoded(_question, raw, path, name, QUESTION)


def read_choices(path: Path, wanted: Set[str]) -> Iterator[tuple[str, Choices]]:
    """(id, choices) of the wanted questions. MismatchError if the file lacks one."""
    members = _members_of(path)
    if lacking := sorted(wanted - members.keys()):
        raise MismatchError(
            path,
            "lacks the choices of questions that are scored",
            found=f"{len(lacking)} of {len(wanted)} missing, such as {lacking[0]}",
            fix="give the choices of the questions' own split (testdev has none), or leave --choices out",
        )
    for name in sorted(wanted):
        yield name, _decoded(_choices, members[name], path, name, CHOICES)


def predictions(predicted: dict[str, str]) -> bytes:
    """Answers by question id, as the official script and server take them; sorted by id."""
    rows = [Prediction(name, predicted[name]) for name in sorted(predicted)]
    return msgspec.json.encode(rows) + b"\n"


def _members_of(path: Path) -> dict[str, Raw]:
    """Members of the file's one object, not yet decoded."""
    if not path.stat().st_size:
        raise RawDataError(path, "is empty", fix="download or copy it again")
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return _members.decode(content)
    except BAD_JSON as error:
        raise RawDataError(path, "is not one JSON object", found=str(error)) from None


def _decoded(decoder: "msgspec.json.Decoder[T]", raw: Raw, path: Path, name: str, expected: str) -> T:
    try:
        return decoder.decode(raw)
    except BAD_JSON as error:
        raise RawDataError(
            f"{path}, {name}", "has another form", found=str(error), expected=expected
        ) from None
