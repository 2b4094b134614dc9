"""Text rules on small tables: what goes, what stays, and what goes with it."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import table_writer
from data_pipeline.stages.validate import Raw, judge_entities, judge_texts, keep_links
from data_pipeline.tables import ROWS, Entity, Image, Region, Text


def table(kind: type, rows: list[tuple]) -> pl.DataFrame:
    arrow = table_writer.schema(kind)
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(arrow)
    arrays = [table_writer._array(column, field.type) for column, field in zip(columns, arrow, strict=True)]
    frame = pl.from_arrow(table_writer.pa.Table.from_arrays(arrays, schema=arrow))
    assert isinstance(frame, pl.DataFrame)
    return frame


def text(name: str, content: str = "Is it red?", **fields: object) -> Text:
    row = Text(name, "a", "question", content, "yes", "", [], [], [], [], "", 0, "f", "/p")
    return row._replace(**fields)


IMAGES = table(
    Image, [Image(picture, f"{picture}.jpg", "", None, None, [], 0, "f", "/p") for picture in "abcde"]
)
CATALOGUE = pl.DataFrame(
    {"picture": list("abcd"), "split": ["train", "val", "train", "train"]}
)  # e is rejected
BOXES = pl.DataFrame(
    {"drop": [0, 0], "picture": ["a", "a"], "region": ["r1", "r2"]}, schema_overrides={"drop": pl.Int32}
)
NONE = pl.DataFrame(schema={"table": pl.String, "id": pl.String})
UNSCANNED = pl.DataFrame(
    schema={"picture": pl.String, "drop": pl.Int32, "width": pl.Int32, "height": pl.Int32}
)


def judge(*rows: Text) -> tuple[list[str], list[tuple[str, str, str]]]:
    kept, findings = judge_texts(table(Text, list(rows)), IMAGES, CATALOGUE, BOXES)
    return kept["text"].to_list(), findings.select("id", "outcome", "reason").rows()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (text("2", " \n\t"), "blank_text"),
        (text("2", ""), "blank_text"),
        (text("1", "other"), "duplicate_id"),
        (text("2", "other", picture="e"), "picture_rejected"),
        (text("2", "other", picture="z"), "unknown_picture"),
        (text("2", "other", split="val"), "split_differs"),
        (text("2", "other", picture="b", split="testdev"), "split_differs"),
        (text("2", "other", picture="b", split="train"), "split_differs"),
        (text("2", "other", about=["r9"]), "region_rejected"),
        (text("2", "other", target=["e", "a"]), "target_rejected"),
        (text("2", "other", target=["b", "c"]), "target_in_other_split"),
        (text("2", "other", picture="b", target=["a"]), "target_in_other_split"),
    ],
)
def test_rejects(row: Text, reason: str) -> None:
    kept, findings = judge(text("1"), row)
    assert kept == ["1"] and findings == [(row.text, "reject", reason)]


def test_conflicting_answers_go_in_train_and_stay_in_evaluation() -> None:
    train = [text("1"), text("2", answer="no"), text("3", answer=None), text("4", "Is it blue?", answer="no")]
    kept, findings = judge(*train)
    assert kept == ["4"] and {row[1:] for row in findings} == {("reject", "conflicting_answers")}
    kept, findings = judge(*(row._replace(picture="b") for row in train[:2]))
    assert kept == ["1", "2"] and {row[1:] for row in findings} == {("flag", "conflicting_answers")}


def test_full_answers_go_with_their_conflicting_questions() -> None:
    asked = [text("1"), text("2", answer="no"), text("3", "Is it blue?")]
    told = [text(f"{n}.full", f"It is {n}.", role="statement", answer=None) for n in (1, 2, 3)]
    kept, findings = judge(*asked, *told)
    assert kept == ["3", "3.full"]
    assert [row for row in findings if row[2] != "conflicting_answers"] == [
        ("1.full", "reject", "text_rejected"),
        ("2.full", "reject", "text_rejected"),
    ]


def test_texts_of_the_pictures_own_split_stay() -> None:
    kept, findings = judge(text("1", split="train"), text("2", picture="b", split="val"), text("3", "x"))
    assert kept == ["1", "2", "3"] and not findings


def test_the_later_of_two_equal_texts_is_flagged() -> None:
    edit = text("4", "redder", role="edit", answer=None)
    statements = [text(name, "It is red.", role="statement") for name in ("6", "7")]
    kept, findings = judge(
        text("1"), text("2"), text("3", picture="c"), edit, edit._replace(text="5"), *statements
    )
    assert len(kept) == 7
    assert findings == [("2", "flag", "duplicate_text"), ("5", "flag", "duplicate_text")]


def test_lost_members_leave_the_list() -> None:
    rows = table(Text, [text("1", role="edit", target=["c", "e"], members=["c", "e", "d"])])
    kept, findings = judge_texts(rows, IMAGES, CATALOGUE, BOXES)
    assert kept["target"].to_list() == [["c"]] and kept["members"].to_list() == [["c", "d"]]
    assert findings.select("id", "outcome", "reason").rows() == [("1", "flag", "member_rejected")]


PICTURES = st.lists(st.sampled_from("abcde"), unique=True)


@given(st.sampled_from("abcd"), PICTURES, PICTURES)
def test_no_text_names_a_picture_of_another_split(
    picture: str, targets: list[str], members: list[str]
) -> None:
    """So what training reads names no evaluation picture, and the reverse."""
    rows = table(Text, [text("1", picture=picture, role="edit", target=targets, members=members)])
    kept, findings = judge_texts(rows, IMAGES, CATALOGUE, BOXES)
    splits = dict(CATALOGUE.iter_rows())
    sound = [name for name in (*targets, *members) if splits.get(name) == splits[picture]]
    left = [*kept["target"].explode().drop_nulls(), *kept["members"].explode().drop_nulls()]
    assert left == (sound if not targets or targets[0] in sound else [])
    assert findings.is_empty() == (left == [*targets, *members])


def test_entities_lose_links_and_keep_spans() -> None:
    texts = table(Text, [text("1", "a red cat"), text("2", "gone")])
    spans = [
        Entity("1", 2, 5, "1", "red", ["r2", "r3", "r1"], "annotated", 0, "f", "/p"),
        Entity("1", 6, 9, "2", "dog", [], "annotated", 0, "f", "/p"),
        Entity("1", 6, 10, "9", None, ["r1"], "annotated", 0, "f", "/p"),
        Entity("2", 0, 4, "0", None, [], "annotated", 0, "f", "/p"),
        Entity("3", 0, 4, "0", None, [], "annotated", 0, "f", "/p"),
    ]
    boxes = table(
        Region, [Region("a", name, 0, 0, 1, 1, "", [], False, [], 0, "f", "/p") for name in ("r1", "r2")]
    )
    tables = {"images": IMAGES, "texts": texts, "regions": boxes, "entities": table(Entity, spans)}
    assert list(tables) == list(ROWS)
    raw = Raw(**tables, unusable=NONE, scanned=UNSCANNED)
    kept, findings = judge_entities(raw, texts[:1], BOXES)
    assert kept["regions"].to_list() == [["r2", "r1"], []]
    assert sorted(findings.select("id", "outcome", "reason").rows()) == [
        ("1/1", "flag", "span_region_missing"),
        ("1/2", "flag", "span_name_differs"),
        ("1/9", "reject", "span_out_of_range"),
        ("2/0", "reject", "text_rejected"),
        ("3/0", "reject", "unknown_text"),
    ]


def test_links_keep_their_order() -> None:
    rows = pl.DataFrame({"picture": ["a", "b", "a"], "named": [["r2", "x", "r1", "r2"], ["r1"], []]})
    assert keep_links(rows, "named", BOXES.drop("drop")).to_list() == [["r2", "r1", "r2"], [], []]
