"""A second drop with ids and pictures of the first: every row stays with what its own drop says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import simplejpeg
import yaml
from chain import run_chain

Write = Callable[[Path, str], None]
Box = tuple[float, ...]  # x, y, w, h in shares of the picture
BOXES = {"a": (0.25, 0.25, 0.5, 0.5), "b": (0.5, 0.0, 0.25, 0.5)}
SIDE = 64


def dump(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def jpeg(path: Path, side: int = SIDE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(1).integers(0, 255, (8, 8, 3), np.uint8)
    cells = np.ones((side // 8, side // 8, 1), np.uint8)
    path.write_bytes(simplejpeg.encode_jpeg(np.kron(noise, cells), colorspace="RGB"))


def pixels(drop: str, side: int = SIDE) -> list[float]:
    return [share * side for share in BOXES[drop]]


def gqa(root: Path, drop: str) -> None:
    """The same picture, the object's id once more for another box, one question of its own, one repeated."""
    asked = {"imageId": "1", "answer": "yes", "annotations": {"question": {"2": "7"}}}
    own = {"a": "1", "b": "2"}[drop]
    questions = {own: {**asked, "question": "Is the cube red?"}}
    if drop == "b":
        questions["1"] = {**asked, "question": "Is that it?", "annotations": {"question": {"0": "7"}}}
    dump(root / "train_balanced_questions.json", questions)
    thing = dict(zip("xywh", pixels(drop), strict=True)) | {"name": f"cube {drop}"}
    dump(root / "train_sceneGraphs.json", {"1": {"width": SIDE, "height": SIDE, "objects": {"7": thing}}})
    jpeg(root / "images/1.jpg")


def fgovd(root: Path, drop: str) -> None:
    """A file of the official name again, and its first box is another."""
    row = {"img_path": "1.jpg", "image_id": 1, "width": SIDE, "height": SIDE, "bbox": pixels(drop)}
    texts = {"pos_expression": [f"a cube of {drop}"], "neg_expression": [f"a ball {n}" for n in range(10)]}
    (root / "h_attributes_llava.jsonl").write_text(json.dumps(row | texts))
    jpeg(root / "1.jpg")


def finehard(root: Path, drop: str) -> None:
    boxed = {"bbox": [*BOXES[drop][:2], *np.add(BOXES[drop][:2], BOXES[drop][2:])]}
    dump(
        root / "jsonfiles/a.json",
        [{"f_path": "1.jpg", "caption": "x", "bbox_info": [boxed | {"short_expr": f"a cube of {drop}"}]}],
    )
    jpeg(root / "1.jpg")


def coco(root: Path, drop: str) -> None:
    image = {"id": 1, "file_name": "1.jpg", "width": SIDE, "height": SIDE}
    number = {"a": 3, "b": 4}[drop]
    box = {"id": number, "image_id": 1, "category_id": 1, "bbox": pixels(drop)}
    kinds = [{"id": 1, "name": f"cube of {drop}"}]
    dump(
        root / "annotations/instances_train2017.json",
        {"images": [image], "annotations": [box], "categories": kinds},
    )
    told = [{"id": number, "image_id": 1, "caption": f"a cube of {drop}"}]
    dump(root / "annotations/captions_train2017.json", {"images": [image], "annotations": told})
    jpeg(root / "train2017/1.jpg")


def visual_genome(root: Path, drop: str) -> None:
    number = {"a": 3, "b": 4}[drop]
    box = dict(zip(("x", "y", "width", "height"), pixels(drop), strict=True))
    dump(root / "image_data.json", [{"image_id": 1, "width": SIDE, "height": SIDE}])
    phrase = {"region_id": number, "phrase": f"a cube of {drop}", **box}
    dump(root / "region_descriptions.json", [{"id": 1, "regions": [phrase]}])
    jpeg(root / "VG_100K/1.jpg")


@pytest.fixture
def project(tmp_path: Path, small_params: dict[str, Any]) -> Callable[..., Path]:
    """Read, scanned, placed and validated: two drops of one format."""

    def build(write: Write, split: str = "train", **more: object) -> Path:
        for drop in BOXES:
            (tmp_path / "raw" / drop).mkdir(parents=True)
            write(tmp_path / "raw" / drop, drop)
        drops = [{"path": drop, "shards": {split: 1}} for drop in BOXES]
        dataset = {"format": write.__name__, "folder": "raw", "raw": drops, **more}
        tokenizer = {"name": small_params["tokenizer"]["name"], "allow_demo": True}
        settings = small_params | {"demo": {}, "pretrain": {}, "budgets": {}, "datasets": {"d": dataset}}
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings | {"tokenizer": tokenizer}))
        run_chain(tmp_path, ["d"])
        return tmp_path

    return build


def boxes_of_texts(project: Path) -> dict[str, Box]:
    """Content of a kept text → the only box that it describes."""
    texts = pl.read_parquet(project / "validate/d/texts.parquet").explode("about")
    boxes = pl.read_parquet(project / "validate/d/regions.parquet")
    joined = texts.join(boxes, left_on=["picture", "about"], right_on=["picture", "region"])
    return {row["content"]: edges(row) for row in joined.iter_rows(named=True)}


def edges(row: dict[str, float]) -> Box:
    return row["x0"], row["y0"], row["x1"], row["y1"]


def expected(drop: str) -> Box:
    x, y, w, h = BOXES[drop]
    return x, y, x + w, y + h


OWN = {"splits": {"train": 1.0}}


@pytest.mark.parametrize(("write", "split", "more"), [(fgovd, "test", {}), (visual_genome, "train", OWN)])
def test_a_phrase_describes_the_box_of_its_own_drop(
    project: Callable[..., Path], write: Write, split: str, more: dict[str, object]
) -> None:
    found = boxes_of_texts(project(write, split, **more))
    assert found == {f"a cube of {drop}": expected(drop) for drop in BOXES}


def test_the_boxes_of_both_drops_lie_in_the_kept_file(project: Callable[..., Path]) -> None:
    folder = project(coco)
    kept = pl.read_parquet(folder / "validate/d/regions.parquet").iter_rows(named=True)
    assert {row["name"]: edges(row) for row in kept} == {f"cube of {d}": expected(d) for d in BOXES}
    gone = pl.read_parquet(folder / "validate/d/findings.parquet").filter(table="images")
    assert gone.select("id", "reason", "detail").rows() == [("1", "picture_rejected", "duplicate_picture")]
    texts = pl.read_parquet(folder / "validate/d/texts.parquet")
    assert texts["content"].to_list() == ["a cube of a", "a cube of b"] and set(texts["split"]) == {"train"}


def test_an_id_that_means_another_box_lends_no_links(project: Callable[..., Path]) -> None:
    """FineHARD's and GQA's ids begin again with each drop."""
    assert "a cube of b" not in boxes_of_texts(project(finehard, **OWN))


def test_spans_of_a_rejected_question_move_to_no_other(project: Callable[..., Path]) -> None:
    folder = project(gqa)
    spans = pl.read_parquet(folder / "validate/d/entities.parquet").select("text", "drop", "span", "regions")
    assert spans.rows() == [("1", 0, "2", ["7"]), ("2", 1, "2", [])]
    findings = pl.read_parquet(folder / "validate/d/findings.parquet").select("table", "id", "reason", "file")
    assert ("entities", "1/0", "text_rejected", "b/train_balanced_questions.json") in findings.rows()
    assert ("texts", "1", "duplicate_id", "b/train_balanced_questions.json") in findings.rows()


@pytest.mark.parametrize("declared", [True, False])
def test_boxes_of_another_size_are_not_read_in_the_kept_file(
    project: Callable[..., Path], declared: bool
) -> None:
    def gqa(root: Path, drop: str) -> None:
        """The second drop has the picture twice as large; both may declare the size of the first."""
        side = {"a": SIDE, "b": 2 * SIDE}[drop]
        number, told = {"a": ("7", SIDE), "b": ("8", side if declared else SIDE)}[drop]
        thing = dict(zip("xywh", pixels("a", side), strict=True)) | {"name": "cube"}
        graph = {"width": told, "height": told, "objects": {number: thing}}
        dump(root / "train_sceneGraphs.json", {"1": graph})
        dump(root / "train_balanced_questions.json", {number: {"imageId": "1", "question": f"Red {drop}?"}})
        jpeg(root / "images/1.jpg", side)

    folder = project(gqa)
    kept = pl.read_parquet(folder / "validate/d/regions.parquet").iter_rows(named=True)
    assert [(row["region"], edges(row)) for row in kept] == [("7", expected("a"))]
    findings = pl.read_parquet(folder / "validate/d/findings.parquet").filter(table="regions")
    assert findings.select("id", "reason").rows() == [("1/8", "size_differs")]
