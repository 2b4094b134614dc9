"""Texts that arrived damaged, and false texts that are not: what goes and what stays."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_text_rules import judge, table, text

from data_pipeline.tables import NegativeText, Text
from data_pipeline.validation.negative_rules import drop_unsound

LETTERS = st.characters(exclude_categories=["C"], exclude_characters="�ÂÃâ")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a\x00cat", "control_characters"),
        ("a cat\x1b[31m", "control_characters"),
        ("a cat\x7f", "control_characters"),
        ("a caf� ", "encoding_damage"),
        ("the dog\x92s bone", "encoding_damage"),  # an apostrophe of Windows-1252
        ("\x0b", "blank_text"),
    ],
)
def test_damaged_texts_are_rejected(content: str, reason: str) -> None:
    assert judge(text("1", content)) == ([], [("1", "reject", reason)])


@pytest.mark.parametrize("content", ["cafÃ© au lait", "the dogâ€™s bone", "30 Â°C"])
def test_likely_damage_is_flagged_and_stays(content: str) -> None:
    assert judge(text("1", content)) == (["1"], [("1", "flag", "mojibake")])


@pytest.mark.parametrize(
    "content",
    [
        "a red\ncat",
        "a\tcat",
        " a  cat ",
        "façade",
        "Inglês",
        "SÃO PAULO",
        "“Â”",
        "1¾ °C",
        "👩‍🚀 ok",
        "一只猫",
        "e\u0301",
    ],
)
def test_unusual_texts_stay(content: str) -> None:
    assert judge(text("1", content)) == (["1"], [])


@given(st.text(st.one_of(LETTERS, st.sampled_from("\n\t ")), min_size=1).filter(str.strip))
def test_letters_of_any_script_are_no_damage(content: str) -> None:
    assert judge(text("1", content)) == (["1"], [])


def given_negatives(*false: str, content: str = "A red cat.") -> Text:
    return text("1", content, role="phrase", negatives=[NegativeText(one, "given") for one in false])


@pytest.mark.parametrize(
    ("false", "reason"),
    [
        ("A red cat.", "negative_is_positive"),
        (" a  Red cat ", "negative_is_positive"),
        ("A red cat .", "negative_is_positive"),
        ("A dog.", "negative_repeated"),
        (" ", "negative_unreadable"),
        ("A \ufffd.", "negative_unreadable"),
    ],
)
def test_unsound_negatives_leave_and_the_text_stays(false: str, reason: str) -> None:
    kept, findings = drop_unsound(table(Text, [given_negatives("A dog.", false, "A red cap.")]))
    assert [one["text"] for one in kept["negatives"][0]] == ["A dog.", "A red cap."]
    assert findings.select("id", "outcome", "reason", "detail").rows() == [("1", "repair", reason, false)]
    assert judge(given_negatives("A dog.", false)) == (["1"], [("1", "repair", reason)])


def test_texts_of_other_boxes_do_not_matter() -> None:
    one = given_negatives("A dog.")._replace(about=["r1"])
    other = given_negatives("A red cat.", "A dog.", content="A dog")._replace(about=["r2"])
    texts = table(Text, [one, other])
    kept, findings = drop_unsound(texts)
    assert [[one["text"] for one in row] for row in kept["negatives"]] == [["A dog."], ["A red cat."]]
    assert len(findings) == 1 and kept.schema == texts.schema


@pytest.mark.parametrize(
    ("other", "stays"),
    [({}, False), ({"picture": "2"}, True), ({"about": ["r2"]}, True), ({"about": []}, True)],
)
def test_what_is_said_of_the_same_thing_elsewhere_is_no_negative(
    other: dict[str, object], stays: bool
) -> None:
    """The long phrase of a box may be among the false ones that its short phrase was given."""
    first = given_negatives("A small dog", "A hat")._replace(about=["r1"])
    second = given_negatives(content="a small  dog.")._replace(text="2", about=["r1"])
    kept, findings = drop_unsound(table(Text, [first, second._replace(**other)]))
    assert [one["text"] for one in kept["negatives"][0]] == ["A small dog", "A hat"][not stays :]
    assert findings["reason"].to_list() == ["negative_is_positive"] * (not stays)


@given(st.lists(st.lists(st.sampled_from(["a", "b", "A.", " "]), max_size=5), max_size=4))
def test_every_negative_is_kept_or_found(lists: list[list[str]]) -> None:
    texts = table(Text, [given_negatives(*false, content="a") for false in lists])
    kept, findings = drop_unsound(texts)
    assert kept.drop("negatives").equals(texts.drop("negatives"))
    assert kept["negatives"].list.len().sum() + len(findings) == sum(map(len, lists))
    assert set(kept["negatives"].explode().drop_nulls().struct.field("text")) <= {"b"}
    assert findings.is_empty() or set(findings["outcome"]) == {"repair"}


def test_texts_that_differ_in_their_type_are_no_repeats() -> None:
    """FG-OVD asks the same phrase at several levels of difficulty."""
    levels = [text(str(n), "a cat", role="phrase", answer=None, type=f"{n}_attributes") for n in (1, 2)]
    assert judge(*levels) == (["1", "2"], [])
    assert judge(levels[0], levels[0]._replace(text="9"))[1] == [("9", "flag", "duplicate_text")]


def test_no_texts_at_all() -> None:
    kept, findings = drop_unsound(table(Text, []))
    assert kept.is_empty() and findings.is_empty() and kept["negatives"].dtype.base_type() is pl.List
