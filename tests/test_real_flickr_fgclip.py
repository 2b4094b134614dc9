"""Flickr30k Entities and FG-OVD as they are distributed, and the text rules on every real text."""

import gzip
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from test_real_files import rejects, rows
from test_text_rules import table

from data_pipeline.readers.flickr30k import unmarked
from data_pipeline.tables import Entity, Finding, Image, Region, Text
from data_pipeline.validation import negative_rules, text_rules


@pytest.fixture
def flickr(real_data: Path, tmp_path: Path) -> Path:
    """The real sentences as a drop; of the boxes one file is here, and not all of it."""
    folder = real_data / "flickr30k_entities"
    shutil.copytree(folder / "Sentences", tmp_path / "Sentences")
    (tmp_path / "Annotations").mkdir()
    shutil.copy(folder / "Annotations_partial/1000092795.txt", tmp_path / "Sentences")
    shutil.copy(
        folder / "Annotations_partial/1000092795.partial.xml", tmp_path / "Annotations/1000092795.xml"
    )
    (tmp_path / "train.txt").write_text("1000092795\n4945942737\n6338542128\n")
    return tmp_path


def word_by_word(line: str) -> list[tuple[int, str]]:
    """(first word, phrase), found the way the official tools do: token by token."""
    found, words, inside = [], 0, False
    for token in line.split():
        if token.startswith("[/EN#"):
            inside = True
            found.append((words, ""))
            continue
        if inside:
            first, phrase = found[-1]
            found[-1] = (first, f"{phrase} {token.removesuffix(']')}".lstrip())
            inside = not token.endswith("]")
        words += 1
    return found


def test_flickr_phrases(flickr: Path) -> None:
    found = rows("flickr30k", flickr, {"train": 1})
    assert len(found[Image]) == 3 and len(found[Text]) == 15
    assert rejects(found) == {"annotation_unusable": 2}  # the boxes of two pictures are not in the sample
    spans = found[Entity]
    assert len(spans) == 56 and Counter("/EN#0/notvisual" in span.span for span in spans)[True] == 3
    lines = [line for image in found[Image] for line in (flickr / f"Sentences/{image.picture}.txt").open()]
    for text, line in zip(found[Text], lines, strict=True):
        content, phrases = unmarked(line.rstrip("\n"))
        assert text.content == content and "  " not in content and "[" not in content
        starts = [len(content[: phrase.start].split()) for phrase in phrases]
        assert [(n, content[p.start : p.end]) for n, p in zip(starts, phrases, strict=True)] == word_by_word(
            line
        )


def test_flickr_boxes(flickr: Path) -> None:
    """The first two people are chain 1, and the second shares a box with the man in the blue shirt."""
    found = rows("flickr30k", flickr, {"train": 1})
    boxes = [(box.region, box.name, box.x, box.y, box.w, box.h) for box in found[Region]]
    assert boxes == [
        ("0", "people", 158, 124, 61, 211),
        ("1", "scene", 0, 219, 211, 254),
        ("2", "scene", 275, 214, 57, 123),
        ("3", "people", 196, 109, 65, 264),
    ]
    contents = {text.text: text.content for text in found[Text]}
    linked = {contents[span.text][span.start : span.end]: span.regions for span in found[Entity]}
    assert linked["Two young guys"] == ["0", "3"] and linked["A man"] == ["3"]
    assert linked["many bushes"] == ["1", "2"] and linked["time"] == []
    assert [(image.width, image.height) for image in found[Image]] == [(333, 500), (None, None), (None, None)]


@pytest.fixture
def fgovd(real_data: Path, tmp_path: Path) -> Path:
    packed = real_data / "fgovd/fgovd_e_attributes_llava.jsonl.gz"
    (tmp_path / "e_attributes_llava.jsonl").write_bytes(gzip.decompress(packed.read_bytes()))
    return tmp_path


def test_fgovd(fgovd: Path) -> None:
    found = rows("fgovd", fgovd, {"test": 1})
    assert not found[Finding]
    assert len(found[Text]) == len(found[Region]) == 1299 and len(found[Image]) == 853
    assert Counter(image.file.split("/")[0] for image in found[Image]).keys() == {"train2017", "val2017"}
    assert all(len(text.negatives) == 10 for text in found[Text])
    sizes = {image.picture: (image.width, image.height) for image in found[Image]}
    for box in found[Region]:
        width, height = sizes[box.picture]
        assert 0 <= box.x < box.x + box.w <= width + 0.01 and 0 <= box.y < box.y + box.h <= height + 0.01
    kept, findings = negative_rules.drop_unsound(table(Text, found[Text]))
    assert findings.is_empty() and kept["negatives"].list.len().sum() == 12990


def test_fgovd_as_an_array_is_the_same(fgovd: Path) -> None:
    """Some of the files called .jsonl hold an array."""
    path = fgovd / "e_attributes_llava.jsonl"
    lines = rows("fgovd", fgovd, {"test": 1})
    path.write_text(json.dumps([json.loads(line) for line in path.read_text().splitlines()]))
    assert rows("fgovd", fgovd, {"test": 1}) == lines


def contents(real_data: Path) -> dict[str, list[str]]:
    """Every real text by its source."""
    pairs = json.loads((real_data / "cirr/captions/cap.rc2.val.json").read_text())
    graphs = json.loads((real_data / "vg/region_descriptions.json").read_text())
    captions = json.loads((real_data / "coco/annotations/captions_train2017.json").read_text())
    questions = json.loads((real_data / "gqa/ood_testdev_head.json").read_text())
    return {
        "cirr": [pair["caption"] for pair in pairs],
        "visual_genome": [region["phrase"] for entry in graphs for region in entry["regions"]],
        "coco": [row["caption"] for row in captions["annotations"]],
        "gqa": [question["question"] for question in questions.values()],
    }


def test_no_real_text_is_taken_for_damaged(real_data: Path) -> None:
    for source, found in contents(real_data).items():
        rules = [*text_rules.UNREADABLE, *(rule for rule in text_rules.OWN if rule.reason == "mojibake")]
        hits = pl.DataFrame({"content": found}).select(rule.when.sum().alias(rule.reason) for rule in rules)
        assert found and hits.row(0) == (0, 0, 0, 0), source


def test_real_phrases_hold_line_breaks(real_data: Path) -> None:
    """So a line break is no control character."""
    phrases = contents(real_data)["visual_genome"]
    assert sum(bool(re.search(r"[\n\r]", phrase)) for phrase in phrases) == 24
