"""COCO and RefCOCOg against parts of the official files, COCO with its photos. Numbers are measured."""

import json
from collections import Counter
from contextlib import chdir
from pathlib import Path

import polars as pl
import pytest
import yaml
from test_real_files import rows

from data_pipeline.__main__ import main
from data_pipeline.reading import plain_pickle
from data_pipeline.tables import Entity, Finding, Image, Region, Text

SPLITS = {"train": 1, "val": 1, "test": 1}


@pytest.fixture(scope="module")
def coco(real_data: Path) -> dict[type, list]:
    return rows("coco", real_data / "coco", {"train": 1})


def test_coco_pictures_and_boxes(coco: dict[type, list]) -> None:
    assert len(coco[Image]) == 40 and len(coco[Region]) == 410 and not coco[Finding]
    assert sum(box.crowd for box in coco[Region]) == 6
    assert all(len(box.mask) == 4 and box.mask[2] > 0 and box.mask[3] > 0 for box in coco[Region])
    assert all(box.w > 0 and box.h > 0 and box.name for box in coco[Region])


def test_coco_captions(coco: dict[type, list]) -> None:
    captions = [text.content for text in coco[Text]]
    assert sorted(Counter(text.picture for text in coco[Text]).values()) == [5] * 39
    assert sum("\n" in caption for caption in captions) == 1
    assert sum(caption != caption.strip() for caption in captions) == 30
    assert {image.picture for image in coco[Image]} - {text.picture for text in coco[Text]} == {"86"}
    assert not coco[Entity]


def test_coco_photos_to_clean_tables(real_data: Path, tmp_path: Path) -> None:
    """Nothing valid is lost: what is odd is flagged, and the counts are those of an audit of the files."""
    drop = {"shards": {"train": 1}}
    dataset = {"format": "coco", "folder": str(real_data / "coco"), "raw": [drop]}
    encoder = {"architecture": "vit", "model": "none", "weights": "random", "size": 8, "grid": 1}
    settings = {"datasets": {"coco": dataset}, "encoders": {"vit": encoder}, "negatives": {"encoder": "vit"}}
    settings |= {"tokenizer": {"name": "words.json"}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings))
    with chdir(tmp_path):
        for stage in (["read", "coco"], ["scan", "coco"], ["images"], ["validate", "coco"]):
            main(stage)
    kept = {
        table: pl.read_parquet(tmp_path / f"validate/coco/{table}.parquet")
        for table in ("images", "texts", "regions")
    }
    assert {table: len(frame) for table, frame in kept.items()} == {
        "images": 40,
        "texts": 195,
        "regions": 410,
    }
    found = pl.read_parquet(tmp_path / "validate/coco/findings.parquet")
    assert Counter(found["reason"]) == {"mask_differs": 10}
    sizes = json.loads((tmp_path / "validate/coco/box_sizes.json").read_text())
    assert sizes["0"] == 0 and sizes["0.01"] == 245


def test_refcocog(real_data: Path) -> None:
    found = rows("refcoco", real_data / "refcoco/refcocog", SPLITS, split_by="umd")
    assert len(found[Image]) == 15 and len(found[Text]) == len(found[Entity]) == 28 and not found[Finding]
    assert Counter(image.split for image in found[Image]) == {"train": 5, "val": 5, "test": 5}
    boxes = {(box.picture, box.region) for box in found[Region]}
    assert len(boxes) == len(found[Region]) == 108
    assert {(text.picture, *text.about) for text in found[Text]} <= boxes
    contents = {text.text: text.content for text in found[Text]}
    assert all(contents[span.text][span.start : span.end] == contents[span.text] for span in found[Entity])


def test_what_the_refcoco_reader_relies_on(real_data: Path) -> None:
    """`sent` holds the tokens, the file of an expression is none, and the pickle is plain data."""
    folder = real_data / "refcoco/refcocog"
    refs = plain_pickle.load(folder / "refs(umd).p")
    assert refs == json.loads((folder / "refs_umd_as_json.json").read_text())
    said = [sentence for ref in refs for sentence in ref["sentences"]]
    assert all(sentence["tokens"] == sentence["sent"].split() for sentence in said)
    assert sum(sentence["raw"] != sentence["sent"] for sentence in said) == 19
    files = {image["file_name"] for image in json.loads((folder / "instances.json").read_text())["images"]}
    assert len(refs) == 15 and not files & {ref["file_name"] for ref in refs}
