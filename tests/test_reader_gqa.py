"""GQA: every trap of its files, and whatever a record holds, its neighbours are read."""

import json
from collections import defaultdict
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_real_files import rejects, rows

from benchmarks import gqa_set, plain_gqa
from contract import params
from contract.errors import RawDataError
from data_pipeline.readers import gqa as reader
from data_pipeline.readers.gqa import token_span
from data_pipeline.stages.read import read_dataset
from data_pipeline.tables import ROWS, Entity, Finding, Image, Region, Text

WORD = st.text("abc?,.é", min_size=1, max_size=5)
SPACE = st.text(" \t\n", min_size=1, max_size=3)


@given(st.lists(st.tuples(WORD, SPACE), min_size=1, max_size=8), st.data())
def test_a_token_span_is_its_words(parts: list[tuple[str, str]], data: st.DataObject) -> None:
    """Whatever the white space, characters [start, end) are the words without trailing punctuation."""
    content = "".join(word + space for word, space in parts)
    words = [word for word, _ in parts]
    places = [sum(len(a) + len(b) for a, b in parts[:n]) for n in range(len(parts))]
    a = data.draw(st.integers(0, len(words) - 1))
    b = data.draw(st.integers(a + 1, len(words)))
    start, end = token_span(words, f"{a}:{b}" if b > a + 1 else str(a), places)
    phrase = content[places[a] : places[b - 1] + len(words[b - 1])]
    if not words[b - 1].rstrip("?,."):
        assert (b - a > 1) or (start, end) == (-1, -1)
    else:
        assert content[start:end] == phrase.rstrip("?,.")
    evenly = " ".join(words)
    start, end = token_span(words, f"{a}:{b}")
    if start >= 0:
        assert evenly[start:end] == " ".join(words[a:b])[: end - start]


@pytest.mark.parametrize("key", ["9", "2:2", "2:1", "-1", "1:99", "x", "", "1:", ":2", "1:2:3"])
def test_a_token_span_that_is_nowhere(key: str) -> None:
    assert token_span(["Is", "it", "red", "?"], key) == (-1, -1)


def question(**fields: object) -> dict[str, object]:
    """As the official files have it, as far as it is read."""
    return {"question": "Is it red?", "imageId": "7", "answer": "yes", **fields}


def gqa(folder: Path, questions: object, graphs: object = None) -> Path:
    (folder / "train_balanced_questions.json").write_text(json.dumps(questions))
    (folder / "train_sceneGraphs.json").write_text(json.dumps(graphs or {}))
    return folder


def test_gqa_rejects_a_bad_record_and_keeps_the_others(tmp_path: Path) -> None:
    bad = {"011": {"imageId": "7"}, "012": question(question=3), "013": [], "014": None}
    found = rows("gqa", gqa(tmp_path, {"010": question(), **bad, "015": question()}), {"train": 1})
    assert [text.text for text in found[Text]] == ["010", "015"]
    assert {(finding.id, finding.position) for finding in found[Finding]} == {(key, f"/{key}") for key in bad}
    assert all(json.loads(finding.record) == bad[finding.id] for finding in found[Finding])
    assert found[Finding][0].file == "train_balanced_questions.json"


def test_gqa_keeps_what_is_hidden_hidden(tmp_path: Path) -> None:
    hidden = {"01": {"question": "What?", "imageId": "n12", "isBalanced": True}}
    (tmp_path / "test_balanced_questions.json").write_text(json.dumps(hidden))
    found = rows("gqa", tmp_path, {"test": 1})
    assert found[Text][0].answer is None and len(found[Text]) == 1
    assert found[Image][0].source_ids == ["coco:12"] and found[Image][0].file == "images/n12.jpg"


def test_gqa_statement_has_spans_of_its_own(tmp_path: Path) -> None:
    spans = {"question": {"2": "5"}, "fullAnswer": {"1:4": "5"}, "answer": {"0": "5"}}
    one = question(fullAnswer="The red, big ball, is red.", annotations=spans)
    found = rows("gqa", gqa(tmp_path, {"1": one}), {"train": 1})
    assert [text.text for text in found[Text]] == ["1", "1.full"]
    assert [(span.text, span.start, span.end) for span in found[Entity]] == [("1", 6, 9), ("1.full", 4, 17)]


def test_gqa_reads_the_ten_parts_of_train_all(tmp_path: Path) -> None:
    folder = tmp_path / "train_all_questions"
    folder.mkdir()
    for part in range(10):
        (folder / f"train_all_questions_{part}.json").write_text(json.dumps({str(part): question()}))
    found = rows("gqa", tmp_path, {"train": 1}, questions="all", scene_graphs=False)
    assert [text.text for text in found[Text]] == [str(part) for part in range(10)]
    (folder / "train_all_questions_9.json").unlink()
    with pytest.raises(RawDataError, match="train_all_questions_9.json"):
        rows("gqa", tmp_path, {"train": 1}, questions="all", scene_graphs=False)


def test_an_id_stands_once_in_all_files_of_a_drop(tmp_path: Path) -> None:
    """Validation joins spans by text and drop: those of a repeated question must not reach it."""
    spans = {"annotations": {"question": {"2": "5"}}}
    for split in ("train", "val"):
        place = tmp_path / f"{split}_balanced_questions.json"
        place.write_text(json.dumps({"1": question(question=f"Is {split} red?", **spans)}))
    found = rows("gqa", tmp_path, {"train": 1, "val": 1}, scene_graphs=False)
    assert [text.content for text in found[Text]] == ["Is train red?"] and len(found[Entity]) == 1
    (repeated,) = found[Finding]
    assert (repeated.reason, repeated.file) == ("duplicate_id", "val_balanced_questions.json")


def test_gqa_bad_object_costs_that_object(tmp_path: Path) -> None:
    box = {"x": 1, "y": 2, "w": 3, "h": 4, "name": "cat", "attributes": ["red"]}
    graphs = {"7": {"width": 9, "height": 9, "objects": {"1": box, "2": {"x": 1}}}, "8": {"objects": {}}}
    found = rows("gqa", gqa(tmp_path, {}, graphs), {"train": 1})
    assert [(region.region, region.w, region.attributes) for region in found[Region]] == [("1", 3.0, ["red"])]
    assert [(finding.table, finding.id) for finding in found[Finding]] == [
        ("regions", "7/2"),
        ("regions", "8"),
    ]


def test_digits_without_end_are_read_all_the_same(tmp_path: Path) -> None:
    picture, key = "n" + "7" * 5000, "1" * 5000
    one = question(imageId=picture, annotations={"question": {key: "5"}})
    found = rows("gqa", gqa(tmp_path, {"1": one}), {"train": 1})
    assert [(span.start, span.end) for span in found[Entity]] == [(-1, -1)]
    assert found[Image][0].source_ids == ["coco:" + "7" * 5000]


def test_a_named_split_needs_its_file(tmp_path: Path) -> None:
    gqa(tmp_path, {})
    with pytest.raises(RawDataError, match="val_sceneGraphs.json"):
        rows("gqa", tmp_path, {"train": 1, "val": 1})


@pytest.mark.parametrize("folder", [".", "questions1.2", "questions"])
def test_a_file_of_another_split_is_said_wherever_it_may_lie(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    gqa(tmp_path, {})
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "val_balanced_questions.json").write_text("not read")
    rows("gqa", tmp_path, {"train": 1})
    assert "names it: val" in capsys.readouterr().err


WHOLE = """{
  "semantic": [{"operation": "select", "dependencies": [], "argument": "table (-) "}],
  "semanticStr": "select: table (-) ", "entailed": ["077"], "equivalent": ["012"],
  "question": "Is there a table, to the left of the lamp?", "imageId": "7", "isBalanced": false,
  "answer": "no-one has said this", "fullAnswer": "No.", "groups": {"global": %s, "local": "x"},
  "annotations": {"question": {"3": "5", "9": "6"}, "answer": {"0": "5"}, "fullAnswer": {}},
  "types": {"structural": "verify", "semantic": "obj", "detailed": "existC"}
}"""


@pytest.mark.parametrize("group", ["null", '""', '"furniture"'])
def test_an_official_record(tmp_path: Path, group: str) -> None:
    """Programmes, groups, absent objects and answers of any kind change nothing of the texts."""
    found = rows("gqa", gqa(tmp_path, {"012": json.loads(WHOLE % group)}), {"train": 1})
    asked, said = found[Text]
    assert (asked.text, asked.answer, asked.type) == ("012", "no-one has said this", "verify/obj")
    assert (said.text, said.role, said.content, said.answer) == ("012.full", "statement", "No.", None)
    spelled = [asked.content[span.start : span.end] for span in found[Entity]]
    assert spelled == ["table", "lamp"] and [span.regions for span in found[Entity]] == [["5"], ["6"]]
    assert not found[Finding]


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"relations": [{"name": "on", "object": "6"}]},
        {"relations": {"on": "6"}},
        {"relations": None},
    ],
)
@pytest.mark.parametrize("scene", [{}, {"location": "indoors", "weather": "none"}, {"weather": None}])
def test_scene_graphs_of_both_forms(
    tmp_path: Path, extra: dict[str, object], scene: dict[str, object]
) -> None:
    box = {"x": 1, "y": 2, "w": 3, "h": 4, "name": "cat", **extra}
    graph = {"width": 9, "height": 8, "objects": {"05": box}, **scene}
    found = rows("gqa", gqa(tmp_path, {}, {"7": graph}), {"train": 1})
    assert [(one.picture, one.width, one.height) for one in found[Image]] == [("7", 9, 8)]
    assert [(box.region, box.name, box.attributes) for box in found[Region]] == [("05", "cat", [])]


def test_testdev_has_spans_and_no_boxes(tmp_path: Path) -> None:
    spans = {"question": {"2": "17"}}
    asked = {"1": question(imageId="n054", annotations=spans), "2": question(imageId="n054")}
    (tmp_path / "testdev_balanced_questions.json").write_text(json.dumps(asked))
    found = rows("gqa", tmp_path, {"testdev": 1})
    assert [one.picture for one in found[Image]] == ["n054"] and found[Image][0].source_ids == ["coco:54"]
    assert [span.regions for span in found[Entity]] == [["17"]] and not found[Region]


def test_conflicting_answers_are_read_and_left_to_validation(tmp_path: Path) -> None:
    asked = {"1": question(answer="bed"), "2": question(answer="shelves")}
    found = rows("gqa", gqa(tmp_path, asked), {"train": 1})
    assert [text.answer for text in found[Text]] == ["bed", "shelves"] and not found[Finding]


def test_of_a_repeated_id_the_first_stays(tmp_path: Path) -> None:
    """With its spans; the later record is a reject as it stands in the file."""
    first, second, third = (json.dumps(question(answer=answer)) for answer in ("yes", "no", "maybe"))
    gqa(tmp_path, {})
    content = f'{{"01": {first}, "2": {third}, "01": {second}}}'
    (tmp_path / "train_balanced_questions.json").write_text(content)
    found = rows("gqa", tmp_path, {"train": 1})
    assert [(text.text, text.answer) for text in found[Text]] == [("01", "yes"), ("2", "maybe")]
    assert rejects(found) == {"duplicate_id": 1} and json.loads(found[Finding][0].record)["answer"] == "no"


def test_repeated_objects_and_pictures_both_come(tmp_path: Path) -> None:
    """Validation and the catalogue reject the later one: nothing is lost before they see it."""
    box = '{"x": 1, "y": 2, "w": 3, "h": 4}'
    graph = f'{{"width": 9, "height": 9, "objects": {{"1": {box}, "1": {box}}}}}'
    gqa(tmp_path, {})
    (tmp_path / "train_sceneGraphs.json").write_text(f'{{"7": {graph}, "7": {graph}}}')
    found = rows("gqa", tmp_path, {"train": 1})
    assert [one.picture for one in found[Image]] == ["7", "7"] and len(found[Region]) == 4


def test_half_a_surrogate_pair_costs_its_record(tmp_path: Path) -> None:
    gqa(tmp_path, {})
    good, bad = json.dumps(question()), json.dumps(question(question="a \ud83d b"))
    (tmp_path / "train_balanced_questions.json").write_text(f'{{"1": {good}, "2": {bad}, "3": {good}}}')
    found = rows("gqa", tmp_path, {"train": 1})
    assert [text.text for text in found[Text]] == ["1", "3"] and rejects(found) == {"malformed": 1}
    assert "ud83d b" in found[Finding][0].record


def test_the_plain_way_gives_the_same_rows(tmp_path: Path) -> None:
    """`json.load` and a loop, written apart from the reader, over files of the official form."""
    gqa_set.write(tmp_path, size=0.0005, seed=1)
    wanted: plain_gqa.Rows = defaultdict(list)
    plain_gqa.read_graphs(tmp_path / plain_gqa.GRAPHS, wanted)
    plain_gqa.read_questions(tmp_path / plain_gqa.QUESTIONS, wanted)
    found = rows("gqa", tmp_path, {"train": 1})
    assert len(wanted["entities"]) > len(wanted["texts"]) > 900
    for table, kind in ROWS.items():
        assert found[kind] == wanted[table]


RECORD = st.sampled_from(
    [question(), question(fullAnswer="It is.", annotations={"fullAnswer": {"0": "5"}}), {"imageId": "7"}, 3]
)
MEMBERS = st.lists(st.tuples(st.sampled_from(["1", "02", "03", "4"]), RECORD), max_size=12)


@given(MEMBERS, st.integers(1, 5))
def test_whatever_is_read_is_kept_or_rejected(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[str, object]], at_once: int
) -> None:
    """Every record once, in the order of the file; how many become rows at a time changes no byte."""
    folder = gqa(tmp_path_factory.mktemp("gqa"), {})
    inside = ", ".join(f'"{name}": {json.dumps(record)}' for name, record in members)
    (folder / "train_balanced_questions.json").write_text(f"{{{inside}}}")
    dataset = params.Dataset(format="gqa", folder=str(folder), raw=[params.Drop(shards={"train": 1})])
    for number, out in ((at_once, "few"), (reader.AT_ONCE, "many")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reader, "AT_ONCE", number)
            read_dataset("gqa", dataset, folder / out, {})
    texts, findings = (pl.read_parquet(folder / f"few/{table}.parquet") for table in ("texts", "findings"))
    asked = texts.filter(role="question")
    assert len(asked) + len(findings) == len(members)
    assert json.loads((folder / "few/counts.json").read_text())["texts"]["read"] == len(texts) + len(findings)
    for table in (*ROWS, "findings"):
        same = f"{table}.parquet"
        assert (folder / "few" / same).read_bytes() == (folder / "many" / same).read_bytes()
