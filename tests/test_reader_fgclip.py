"""FineHARD and FG-OVD on generated files of the official form."""

import json
from pathlib import Path

import pytest
from test_real_files import flags, rejects, rows

from contract.errors import ParamsError, RawDataError
from data_pipeline.reading import json_lines
from data_pipeline.tables import Finding, Image, NegativeText, Region, Text

PATH = "grit-20m/data-12m/coyo_image_0/00069/000699825.jpg"
NAME = "coyo_image_0/00069/000699825"


def boxed(*box: object, **fields: object) -> dict[str, object]:
    return {"bbox": list(box), "short_expr": "a cat", "long_expr": "a cat on a mat", **fields}


def finehard(folder: Path, *pictures: object, name: str = "a.json") -> Path:
    (folder / "jsonfiles").mkdir(exist_ok=True)
    (folder / "jsonfiles" / name).write_text(json.dumps(pictures))
    return folder


def picture(*boxes: object, **fields: object) -> dict[str, object]:
    whole = {"f_path": PATH, "caption": "A long caption.", "short_caption": "short"}
    return {**whole, "bbox_info": list(boxes), **fields}


def test_finehard_picture(tmp_path: Path) -> None:
    false = {"0": "a dog", "1": "a hat"}
    first = boxed(0.25, 0.5, 0.75, 1.0, 0.93, flag_short_neg=1, short_expr_negs=false)
    found = rows("finehard", finehard(tmp_path, picture(first, boxed(0, 0, 1, 1))), {"train": 1})
    assert not found[Finding]
    (image,) = found[Image]
    assert image.picture == NAME and image.file == f"{NAME}.jpg" and image.split == ""
    assert image.width is None and image.height is None
    assert [(box.region, box.x, box.y, box.w, box.h, box.normalised) for box in found[Region]] == [
        ("0", 0.25, 0.5, 0.5, 0.5, True),
        ("1", 0, 0, 1, 1, True),
    ]
    assert [(text.text.removeprefix(NAME), text.role, text.type, text.about) for text in found[Text]] == [
        ("#long", "caption", "long", []),
        ("#short", "caption", "short", []),
        ("#0.short", "phrase", "short", ["0"]),
        ("#0.long", "phrase", "long", ["0"]),
        ("#1.short", "phrase", "short", ["1"]),
        ("#1.long", "phrase", "long", ["1"]),
    ]
    given = [NegativeText("a dog", "given"), NegativeText("a hat", "given")]
    assert [text.negatives for text in found[Text]] == [[], [], given, [], [], []]


def test_finehard_negatives_count_where_their_flag_says_so(tmp_path: Path) -> None:
    withheld = boxed(0, 0, 1, 1, flag_short_neg=0, short_expr_negs={"0": "a dog"})
    found = rows("finehard", finehard(tmp_path, picture(withheld)), {"train": 1})
    assert flags(found) == {"negatives_withheld": 1} and not any(text.negatives for text in found[Text])


def test_finehard_negatives_of_one_number_are_all_read(tmp_path: Path) -> None:
    finehard(
        tmp_path, picture(boxed(0, 0, 1, 1, flag_short_neg=1, short_expr_negs={"0": "a dog", "1": "a hat"}))
    )
    path = tmp_path / "jsonfiles/a.json"
    path.write_text(path.read_text().replace('"1": "a hat"', '"0": "a hat"'))
    found = rows("finehard", tmp_path, {"train": 1})
    assert [one.text for text in found[Text] for one in text.negatives] == ["a dog", "a hat"]


def test_finehard_bad_records_cost_themselves(tmp_path: Path) -> None:
    bad = [boxed(0, 0, 1), boxed(0, 0, 1, None), boxed(0, 0, 1, 1, short_expr=7), "x"]
    pictures = [{"caption": "no path"}, [], picture(*bad, boxed(0, 0, 1, 1)), picture(f_path=3)]
    found = rows("finehard", finehard(tmp_path, *pictures), {"train": 1})
    assert [box.region for box in found[Region]] == ["4"] and len(found[Image]) == 1
    assert rejects(found) == {"malformed": 7}
    ids = [finding.id for finding in found[Finding] if finding.table == "images"]
    assert ids == ["jsonfiles/a.json/0", "jsonfiles/a.json/1", "3"]


def test_finehard_without_boxes_and_prefix(tmp_path: Path) -> None:
    """The Chinese pictures of FG-CLIP 2 have no boxes."""
    plain = {"f_path": "x/1.jpg", "caption": "一只猫", "is_cn": True}
    finehard(tmp_path, plain, name="b.json")
    found = rows("finehard", finehard(tmp_path, picture()), {"train": 1})
    assert [(image.file, image.source_file) for image in found[Image]] == [
        (f"{NAME}.jpg", "jsonfiles/a.json"),
        ("x/1.jpg", "jsonfiles/b.json"),
    ]
    assert [text.content for text in found[Text]] == ["A long caption.", "short", "一只猫"]


def test_finehard_nothing_said_costs_nothing(tmp_path: Path) -> None:
    """Where other pictures and boxes have a list or a mark, some have null."""
    bare = boxed(0, 0, 1, 1, short_expr_negs=None, flag_short_neg=None, long_expr=None)
    without = {"f_path": "x/1.jpg", "caption": "a cat", "bbox_info": None}
    found = rows("finehard", finehard(tmp_path, picture(bare), without), {"train": 1})
    assert not found[Finding] and [box.region for box in found[Region]] == ["0"]
    assert [text.content for text in found[Text]] == ["A long caption.", "short", "a cat", "a cat"]


def test_finehard_a_bad_record_says_what_is_lost_with_it(tmp_path: Path) -> None:
    found = rows("finehard", finehard(tmp_path, picture(boxed(0, 0, 1)), {"caption": ""}), {"train": 1})
    assert [(finding.table, finding.detail.split("; ")[-1]) for finding in found[Finding]] == [
        ("regions", "its phrases are lost with it"),
        ("images", "its captions and boxes are lost with it"),
    ]


def test_arrays_and_lines_are_read_and_nothing_that_only_looks_like_them(tmp_path: Path) -> None:
    finehard(tmp_path, picture())
    other = json.dumps({"f_path": "x/1.jpg", "caption": "a cat"})
    (tmp_path / "jsonfiles/b.jsonl").write_text(f"{other}\n")
    fgovd(tmp_path, expression(7), name="h_attributes_llava.jsonl")
    for name in ("jsonfiles/a.json.bak", "h_attributes_llava.jsonl.gz", "h_attributes_llava.json_old"):
        (tmp_path / name).write_bytes(b"\x1f\x8b")
    assert [image.picture for image in rows("finehard", tmp_path, {"train": 1})[Image]] == [NAME, "x/1"]
    assert len(rows("fgovd", tmp_path, {"test": 1})[Text]) == 1


def test_finehard_needs_its_files(tmp_path: Path) -> None:
    with pytest.raises(RawDataError, match="jsonfiles"):
        rows("finehard", tmp_path, {"train": 1})
    (tmp_path / "jsonfiles").mkdir()
    with pytest.raises(RawDataError, match=r"\*\.json"):
        rows("finehard", tmp_path, {"train": 1})
    with pytest.raises(ParamsError, match="shuffle"):
        rows("finehard", tmp_path, {"train": 1}, shuffle=True)


def expression(number: int, *box: float, **fields: object) -> dict[str, object]:
    path = {"img_path": f"val2017/{number:012}.jpg", "image_id": number, "width": 50, "height": 40}
    texts = {"pos_expression": [" A red cat ."], "neg_expression": [f"A cat {n}" for n in range(10)]}
    return {**path, "bbox": list(box) or [1.5, 2, 3, 4], "test_type": "3_attributes", **texts, **fields}


def fgovd(folder: Path, *expressions: object, name: str = "e_attributes_llava.jsonl") -> Path:
    (folder / name).write_text("\n".join(json.dumps(row) for row in expressions))
    return folder


def test_fgovd_boxes_repeat_across_files(tmp_path: Path) -> None:
    fgovd(tmp_path, expression(7, test_type="1_attributes"), name="h_attributes_llava.jsonl")
    rows_of_e = [expression(7), expression(7, 1, 1, 2, 2), expression(8)]
    found = rows("fgovd", fgovd(tmp_path, *rows_of_e), {"test": 1})
    assert not found[Finding]
    assert [(image.picture, image.source_ids, image.split) for image in found[Image]] == [
        ("val2017/000000000007", ["coco:7"], "test"),
        ("val2017/000000000008", ["coco:8"], "test"),
    ]
    assert [(box.picture[-1], box.region, box.x) for box in found[Region]] == [
        ("7", "1.5,2.0,3.0,4.0", 1.5),
        ("7", "1.0,1.0,2.0,2.0", 1),
        ("8", "1.5,2.0,3.0,4.0", 1.5),
    ]
    assert [(text.text, text.type, text.about) for text in found[Text]] == [
        ("e_attributes_llava/0", "3_attributes", ["1.5,2.0,3.0,4.0"]),
        ("e_attributes_llava/1", "3_attributes", ["1.0,1.0,2.0,2.0"]),
        ("e_attributes_llava/2", "3_attributes", ["1.5,2.0,3.0,4.0"]),
        ("h_attributes_llava/0", "1_attributes", ["1.5,2.0,3.0,4.0"]),
    ]
    assert found[Text][0].content == " A red cat ."  # as the source has it
    assert found[Text][0].negatives[9] == NegativeText("A cat 9", "given")


def test_fgovd_says_when_the_negatives_are_not_ten(tmp_path: Path) -> None:
    found = rows("fgovd", fgovd(tmp_path, expression(7, neg_expression=["a", "b"])), {"test": 1})
    assert flags(found) == {"negatives_not_ten": 1} and len(found[Text][0].negatives) == 2


def test_fgovd_bad_rows_cost_themselves(tmp_path: Path) -> None:
    bad = [expression(7, pos_expression=[]), expression(7, 1, 2, 3), expression(7, width=2**40), 3]
    path = fgovd(tmp_path, *bad, expression(8)) / "e_attributes_llava.jsonl"
    path.write_text(path.read_text() + "\n{ cut off")
    found = rows("fgovd", tmp_path, {"test": 1})
    assert rejects(found) == {"malformed": 5} and [text.text[-1] for text in found[Text]] == ["4"]
    assert [finding.position for finding in found[Finding]] == ["/0", "/1", "/2", "/3", "/5"]


def test_fgovd_belongs_to_one_split(tmp_path: Path) -> None:
    """Its pictures are of train2017 too: a folder's name must not send the benchmark into training."""
    fgovd(tmp_path, expression(7, img_path="train2017/000000000007.jpg"))
    assert rows("fgovd", tmp_path, {"test": 1})[Image][0].split == "test"
    with pytest.raises(ParamsError, match=r"raw\[0\].shards: .* name no split"):
        rows("fgovd", tmp_path, {"train": 1, "val": 1})


def test_fgovd_needs_its_files(tmp_path: Path) -> None:
    with pytest.raises(RawDataError, match="e_attributes_llava.jsonl"):
        rows("fgovd", tmp_path, {"test": 1})
    with pytest.raises(ParamsError, match="shuffle"):
        rows("fgovd", tmp_path, {"test": 1}, shuffle=True)


LINES = ["1", '{"a": [2]}', '"三"']


@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
@pytest.mark.parametrize(
    "content", ["\n".join(LINES), f"\n [{','.join(LINES)}]\n", "\ufeff" + "\r\n".join(LINES)]
)
def test_the_content_tells_an_array_from_lines(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, newline="")
    found = list(json_lines.records(tmp_path / name))
    assert [bytes(raw).decode() for _, raw in found] == LINES
    assert [number for number, _ in found] == ["0", "1", "2"]


def test_a_file_that_ends_in_the_middle_of_a_line_is_one_error(tmp_path: Path) -> None:
    """All after it would not be missed; a bad line inside is one record's fault."""
    path = tmp_path / "x.jsonl"
    for whole in ('{"a": 1}\n{"b": ', '{"a": 1}\n{"b": "\u00e9'):
        path.write_bytes(whole.encode()[:-1] if whole.endswith("\u00e9") else whole.encode())
        found = json_lines.records(path)
        assert next(found)[0] == "0"
        with pytest.raises(RawDataError, match="line 2: the file ends in the middle of a record"):
            next(found)
    path.write_text('{"a": 1}\n{"b": \n{"c": 3}')
    assert len(list(json_lines.records(path))) == 3


def test_lines_that_are_no_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(" \n")
    with pytest.raises(RawDataError, match="is empty"):
        list(json_lines.records(path))
    monkeypatch.setattr(json_lines, "LONGEST_LINE", 20)
    path.write_text('{"a": 1}\n\n{"b": 2}\n"a line that is far too long"\n')
    records = json_lines.records(path)
    assert [next(records)[0], next(records)[0]] == ["0", "2"]  # the number of the line
    with pytest.raises(RawDataError, match="line 4: is too long"):
        next(records)
