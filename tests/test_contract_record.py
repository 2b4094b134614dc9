"""Record: `problems` finds what the types cannot say, and nothing in a sound record."""

import pytest
from drawn import records
from hypothesis import given

from contract import record
from contract.record import NegText, Record, Regions, Text

BOX = (0.0, 0.0, 1.0, 1.0)


def with_text(**fields: object) -> Record:
    text = Text(**{"id": "t", "role": "phrase", "text": "a cube", "tokens": [1, 2], **fields})  # type: ignore[arg-type]
    return Record(1, "p", 4, 4, "0", "g", Regions(["r"], [BOX], [""]), [text])


def with_regions(**fields: object) -> Record:
    regions = Regions(**{"id": ["r"], "box": [BOX], "name": [""], **fields})  # type: ignore[arg-type]
    return Record(1, "p", 4, 4, "0", "g", regions, [])


@given(records())
def test_a_sound_record_has_no_problems(drawn: Record) -> None:
    assert record.problems(drawn) == []


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (with_regions(name=[]), "differ in length"),
        (with_regions(box=[(0.5, 0.0, 0.5, 1.0)]), "not a valid xyxy"),
        (with_regions(box=[(0.0, 0.0, 1.1, 1.0)]), "not a valid xyxy"),
        (with_regions(box=[(float("nan"), 0.0, 1.0, 1.0)]), "not a valid xyxy"),
        (with_regions(crowd=[1]), "crowd names a row"),
        (with_text(span_chars=[(0, 1)]), "span lists differ"),
        (with_text(span_chars=[(0, 6)], span_tokens=[(0, 1)]), "span lists differ"),
        (
            with_text(span_chars=[(0, 7)], span_tokens=[(0, 1)], span_regions=[[]]),
            "character span out of range",
        ),
        (
            with_text(span_chars=[(1, 1)], span_tokens=[(0, 1)], span_regions=[[]]),
            "character span out of range",
        ),
        (with_text(span_chars=[(0, 6)], span_tokens=[(0, 3)], span_regions=[[]]), "token span out of range"),
        (
            with_text(span_chars=[(0, 6)], span_tokens=[(0, 1)], span_regions=[[1]]),
            "a region that is not there",
        ),
        (with_text(about=[-1]), "a region that is not there"),
        (with_text(tokens=[1, -1]), "a token that the tokenizer does not know"),
        (with_text(tokens=[100]), "a token that the tokenizer does not know"),
        (
            with_text(negatives=[NegText("a cone", [100], "object")]),
            "a token that the tokenizer does not know",
        ),
        (Record(1, "p", 0, 4, "0", "g", Regions(), []), "width and height must be positive"),
        (Record(1, "p", 4, 0, "0", "g", Regions(), []), "width and height must be positive"),
    ],
)
def test_problems_are_found_and_named(wrong: Record, problem: str) -> None:
    found = record.problems(wrong, vocabulary=100)
    assert any(problem in what for what in found), found


def test_text_ids_that_repeat_are_a_problem() -> None:
    twice = with_text()
    twice.texts.append(twice.texts[0])
    assert record.problems(twice) == ["text ids repeat"]


def test_the_fingerprint_is_pinned() -> None:
    """A changed schema changes it: raise FORMAT_VERSION, note it in CHANGELOG.md, then pin the new one."""
    assert record.fingerprint() == "4aaaf4f57d354468"


def test_the_fingerprint_does_not_read_docstrings(monkeypatch: pytest.MonkeyPatch) -> None:
    before = record.fingerprint()
    monkeypatch.setattr(Record, "__doc__", "other words")
    assert record.fingerprint() == before
