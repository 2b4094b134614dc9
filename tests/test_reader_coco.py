"""COCO on small files of the official form: what a mask is, what is found, what stops the reader."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from msgspec import DecodeError, Raw
from pycocotools import mask as rle
from test_real_files import flags, rejects, rows

from contract.errors import ParamsError, RawDataError
from data_pipeline.demo.coco import run_lengths
from data_pipeline.reading.coco_masks import MaskError, mask_box
from data_pipeline.tables import Finding, Image, Region, Text

WIDTH, HEIGHT = 40, 30
SQUARE = [4, 5, 14, 5, 14, 25, 4, 25]


def image(number: int, **fields: object) -> dict[str, object]:
    size = {"width": WIDTH, "height": HEIGHT}
    return {"id": number, "file_name": f"{number:012d}.jpg", "license": 4, **size, **fields}


def annotation(number: int, picture: int = 9, **fields: object) -> dict[str, object]:
    box = {"bbox": [4, 5, 10.0, 20.0], "segmentation": [SQUARE], "iscrowd": 0, "area": 200.0}
    return {"id": number, "image_id": picture, "category_id": 18, **box, **fields}


def caption(number: int, picture: int = 9, **fields: object) -> dict[str, object]:
    return {"id": number, "image_id": picture, "caption": "a dog", **fields}


def coco(
    folder: Path, annotations: list, captions: list | None = None, ends: str = "train2017", **fields: object
) -> Path:
    base = {"info": {}, "licenses": [], "images": [image(9)]}
    kinds = [{"supercategory": "animal", "id": 18, "name": "dog"}]
    instances = base | {"annotations": annotations, "categories": kinds} | fields
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / f"annotations/instances_{ends}.json").write_text(json.dumps(instances))
    told = base | {"annotations": captions or []}
    (folder / f"annotations/captions_{ends}.json").write_text(json.dumps(told))
    return folder


# ---- masks ---------------------------------------------------------------------------------------------


def raw(segmentation: object) -> Raw:
    return Raw(json.dumps(segmentation).encode())


def packed(mask: np.ndarray) -> dict[str, object]:
    runs = rle.encode(np.asfortranarray(mask, np.uint8))
    return {"size": runs["size"], "counts": runs["counts"].decode()}


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_both_kinds_of_run_lengths_give_the_box_around_the_mask(mask: np.ndarray) -> None:
    height, width = mask.shape
    plain = {"size": [height, width], "counts": run_lengths(mask)}
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    tight = [0.0] * 4
    if mask.any():
        tight = [columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1]
    assert mask_box(raw(plain), (width, height)) == tight
    assert mask_box(raw(packed(mask)), (width, height)) == tight


@given(st.integers(0, 30), st.integers(0, 20), st.integers(2, 10), st.integers(2, 10))
def test_the_mask_of_a_rectangle_is_the_rectangle(x: int, y: int, w: int, h: int) -> None:
    ring = [x, y, x + w, y, x + w, y + h, x, y + h]
    assert mask_box(raw([ring]), (WIDTH, HEIGHT)) == [x, y, w, h]


def test_several_polygons_are_one_mask() -> None:
    other = [30, 5, 35, 5, 35, 9, 30, 9]
    assert mask_box(raw([SQUARE, other]), (WIDTH, HEIGHT)) == [4, 5, 31, 20]


@pytest.mark.parametrize("segmentation", [[], None])
def test_no_segmentation_is_no_mask(segmentation: object) -> None:
    assert mask_box(raw(segmentation), (WIDTH, HEIGHT)) == []


SIZE = [HEIGHT, WIDTH]
FAR = [0, 0, 1e9, 0, 1e9, 1e9]  # gigabytes, if it were drawn
HOSTILE = {
    "a box in place of a polygon": [[4, 5, 10, 20]],
    "an odd number of numbers": [[4, 5, 14, 5, 14, 25, 4]],
    "one bad ring among good ones": [SQUARE, []],
    "far away": [FAR],
    "one far point": [[-1e12, -1e12] * 3],
    "an outline without end": [[0, 0, WIDTH, HEIGHT] * 500],
    "runs too short": {"size": SIZE, "counts": [5, 5]},
    "runs too long": {"size": SIZE, "counts": [5, 5, 2**31]},
    "negative runs": {"size": SIZE, "counts": [-5, WIDTH * HEIGHT + 5]},
    "another size": {"size": [WIDTH, HEIGHT], "counts": [WIDTH * HEIGHT]},
    "no size": {"size": [0, 0], "counts": []},
    "a number that does not end": {"size": SIZE, "counts": "PPPPPP"},
    "a number of too many bits": {"size": SIZE, "counts": "oooooooooooo0"},
    "other letters": {"size": SIZE, "counts": "\x00\xff"},
    "packed runs beyond the picture": {"size": SIZE, "counts": packed(np.eye(99))["counts"]},
    "a text": "x",
    "numbers without rings": [1, 2, 3, 4, 5, 6],
}


@pytest.mark.parametrize("segmentation", HOSTILE.values(), ids=HOSTILE)
def test_a_mask_that_lies_is_refused(segmentation: object) -> None:
    with pytest.raises((MaskError, DecodeError)):
        mask_box(raw(segmentation), (WIDTH, HEIGHT))


def test_a_mask_over_too_large_a_picture_is_refused() -> None:
    for size in ((70_000, 1), (60_000, 60_000)):
        with pytest.raises(MaskError, match="over a picture"):
            mask_box(raw([SQUARE]), size)


# ---- the reader ----------------------------------------------------------------------------------------


def test_pictures_boxes_and_captions(tmp_path: Path) -> None:
    words = " A dog\nat rest. "
    found = rows("coco", coco(tmp_path, [annotation(1)], [caption(5, caption=words)]), {"train": 1})
    (picture,), (box,), (text,) = found[Image], found[Region], found[Text]
    assert (picture.picture, picture.file, picture.split) == ("9", "train2017/000000000009.jpg", "train")
    assert (picture.width, picture.height, picture.source_ids) == (WIDTH, HEIGHT, ["coco:9"])
    assert (box.picture, box.region, box.name, box.crowd) == ("9", "1", "dog", False)
    assert (box.x, box.y, box.w, box.h, box.mask) == (4, 5, 10, 20, [4, 5, 10, 20])
    assert (text.text, text.picture, text.role, text.content) == ("5", "9", "caption", words)
    assert box.position == "/annotations/0" and text.split == "train" and not found[Finding]


def test_the_names_of_2014(tmp_path: Path) -> None:
    listed = [image(9, file_name="COCO_val2014_000000000009.jpg")]
    found = rows("coco", coco(tmp_path, [], ends="val2014", images=listed), {"val": 1}, year="2014")
    assert found[Image][0].file == "val2014/COCO_val2014_000000000009.jpg"
    assert found[Image][0].source_ids == ["coco:9"]
    with pytest.raises(ParamsError, match="year"):
        rows("coco", tmp_path, {"val": 1}, year="2015")


def test_a_crowd_is_marked(tmp_path: Path) -> None:
    runs = {"size": SIZE, "counts": [HEIGHT * 2 + 3, 4, HEIGHT * (WIDTH - 2) - 7]}
    crowd = annotation(900100581904, iscrowd=1, segmentation=runs)
    (box,) = rows("coco", coco(tmp_path, [crowd]), {"train": 1})[Region]
    assert box.crowd and box.region == "900100581904" and box.mask == [2, 3, 1, 4]


def test_a_photo_without_annotation_stays(tmp_path: Path) -> None:
    found = rows("coco", coco(tmp_path, [annotation(1)], images=[image(9), image(10)]), {"train": 1})
    assert [picture.picture for picture in found[Image]] == ["9", "10"] and not found[Finding]


def test_a_bad_mask_costs_the_mask(tmp_path: Path) -> None:
    masks = [annotation(number, segmentation=mask) for number, mask in enumerate(HOSTILE.values())]
    found = rows("coco", coco(tmp_path, masks), {"train": 1})
    assert len(found[Region]) == len(HOSTILE) and all(box.mask == [] for box in found[Region])
    assert flags(found) == {"mask_unusable": len(HOSTILE)}
    assert found[Finding][0].id == "9/0" and "polygon of 4 numbers" in found[Finding][0].detail


def test_an_unknown_category_costs_the_name(tmp_path: Path) -> None:
    found = rows("coco", coco(tmp_path, [annotation(1, category_id=12)]), {"train": 1})
    assert [box.name for box in found[Region]] == [""] and flags(found) == {"unknown_category": 1}


def test_annotations_that_cannot_be_used(tmp_path: Path) -> None:
    bad = [annotation(1, bbox=[1, 2, 3]), annotation(2, picture=77), {"id": 3}, 4, annotation(-5)]
    told = [caption(5, caption=None), caption(6), "seven"]
    found = rows("coco", coco(tmp_path, [*bad, annotation(6)], told), {"train": 1})
    assert [box.region for box in found[Region]] == ["6"] and [text.text for text in found[Text]] == ["6"]
    assert [(finding.id, finding.reason, finding.position) for finding in found[Finding]] == [
        ("9/1", "malformed", "/annotations/0"),
        ("77/2", "unknown_picture", "/annotations/1"),
        ("/3", "malformed", "/annotations/2"),
        ("/3", "malformed", "/annotations/3"),
        ("9/-5", "malformed", "/annotations/4"),
        ("5", "malformed", "/annotations/0"),
        ("annotations/captions_train2017.json/annotations/2", "malformed", "/annotations/2"),
    ]


@pytest.mark.parametrize(
    "listed",
    [image(9, file_name="../secret.jpg"), image(9, width=2**31), image(9, id="9"), [], image(10**30)],
)
def test_a_picture_that_cannot_be_used(tmp_path: Path, listed: object) -> None:
    found = rows("coco", coco(tmp_path, [annotation(1)], images=[listed]), {"train": 1})
    assert not found[Image] and rejects(found) == {"malformed": 1, "unknown_picture": 1}


def test_malformed_categories_stop_the_reader(tmp_path: Path) -> None:
    with pytest.raises(RawDataError, match="instances_train2017.json: has malformed categories"):
        rows("coco", coco(tmp_path, [], categories=[{"id": 1}]), {"train": 1})


def test_other_files_and_splits_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco(tmp_path, [])
    coco(tmp_path, [], ends="val2017")
    rows("coco", tmp_path, {"train": 1})
    assert "names it: val\n" in capsys.readouterr().err
    with pytest.raises(RawDataError, match=r"annotations/instances_test2017.json"):
        rows("coco", tmp_path, {"test": 1})
    (tmp_path / "annotations/captions_train2017.json").unlink()
    with pytest.raises(RawDataError, match=r"captions_train2017.json of annotations_trainval2017.zip"):
        rows("coco", tmp_path, {"train": 1})


def test_a_cut_file_names_file_and_byte(tmp_path: Path) -> None:
    path = coco(tmp_path, [annotation(1)]) / "annotations/instances_train2017.json"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RawDataError, match=r"instances_train2017.json, byte 200: ends in the middle"):
        rows("coco", tmp_path, {"train": 1})
    path.write_text('{"images": []}')
    with pytest.raises(RawDataError, match="annotations"):
        rows("coco", tmp_path, {"train": 1})
