"""What the manifest says that no shard holds: all that a split declares, less what its shards have."""

import argparse
import json
from pathlib import Path
from typing import Any

import by_hand
import msgspec
import polars as pl
import pytest

from contract import manifest
from contract.manifest import DataManifest
from data_pipeline.shards.missing import missing
from data_pipeline.stages import shards

ARGS = argparse.Namespace(params=Path("params.yaml"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    by_hand.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def add(path: str, *rows: dict[str, Any]) -> None:
    """Rows behind those of a table."""
    known = pl.read_parquet(path)
    pl.concat([known, pl.DataFrame(list(rows), known.schema)]).write_parquet(path)


def picture(name: str, split: str) -> dict[str, Any]:
    return {"picture": name, "file": "x.jpg", "split": split, "source_file": "images.json"}


def question(name: str, on: str, split: str, **more: Any) -> dict[str, Any]:
    place = {"split": split, "source_file": f"{split}.json", **more}
    return by_hand.text(name, on, "question", "What is it?", **place)


def unread(table: str, name: str, file: str, reason: str = "malformed") -> dict[str, Any]:
    return by_hand.finding(table, name, "reject", reason, {}) | {"file": file}


def of_gqa() -> dict[str, dict[str, int]]:
    return missing("gqa", pl.read_parquet("images/catalogue.parquet").filter(dataset="gqa"))


def test_where_nothing_was_rejected_nothing_is_missing(project: Path) -> None:
    shards.run(ARGS)
    assert manifest.load(Path("data"), DataManifest).missing == {"gqa": {}, "cirr": {}}


def test_rejected_pictures_and_texts_are_counted_by_split_and_role(project: Path) -> None:
    add("read/gqa/images.parquet", picture("90", "val"), picture("91", "val"), picture("92", "train"))
    add("read/gqa/texts.parquet", question("80", "90", "val"), question("81", "3", "val"))
    add("read/gqa/texts.parquet", by_hand.text("82", "3", "statement", " ", split="val"))
    shards.run(ARGS)
    told = manifest.load(Path("data"), DataManifest).missing["gqa"]
    assert told == {"train": {"picture": 1}, "val": {"picture": 2, "question": 2, "statement": 1}}
    assert list(told["val"]) == sorted(told["val"])


def test_a_picture_of_two_splits_is_missing_in_the_one_that_does_not_hold_it(project: Path) -> None:
    add("read/gqa/images.parquet", picture("3", "val"), picture("3", "testdev"))
    assert of_gqa() == {"testdev": {"picture": 1}}


def test_a_text_of_no_official_split_is_of_its_pictures(project: Path) -> None:
    add("read/gqa/texts.parquet", question("80", "3", ""), question("81", "gone", ""))
    add("read/gqa/images.parquet", picture("3", ""), picture("gone", ""))
    assert of_gqa() == {"": {"picture": 1, "question": 1}, "val": {"question": 1}}


def test_training_copies_of_evaluation_pictures_are_left_out_on_purpose(project: Path) -> None:
    copy = by_hand.finding("images", "90", "reject", "in_evaluation_split", {})
    add("images/findings.parquet", {"dataset": "gqa", **copy})
    add("read/gqa/images.parquet", picture("90", "train"))
    add("read/gqa/texts.parquet", question("80", "90", "train"), question("81", "1", "train", target=["90"]))
    assert of_gqa() == {}
    add("read/gqa/images.parquet", picture("90", "testdev"))
    add("read/gqa/texts.parquet", question("82", "90", "testdev"))
    assert of_gqa() == {"testdev": {"picture": 1, "question": 1}}


def test_a_record_that_could_not_be_read_is_of_its_files_split_and_role(project: Path) -> None:
    kept = [question("10", "3", "val"), question("11", "1", "train", source_file="mixed.json")]
    kept.append(question("12", "3", "val", source_file="mixed.json"))
    add("read/gqa/texts.parquet", *kept)
    add("spans/gqa/texts.parquet", *kept)
    add("read/gqa/findings.parquet", unread("texts", "90", "val.json"), unread("texts", "91", "mixed.json"))
    add("read/gqa/findings.parquet", unread("texts", "92", "none.json"), unread("images", "93", "none.json"))
    assert of_gqa() == {"": {"picture": 1, "question": 1, "text": 1}, "val": {"question": 1}}


def test_repeats_of_what_is_kept_and_codes_are_not_missing(project: Path) -> None:
    add("read/gqa/texts.parquet", by_hand.GQA_TEXTS[0])
    add("read/gqa/findings.parquet", unread("texts", "02", "texts.json", "duplicate_id"))
    add("read/gqa/findings.parquet", unread("texts", "90", "texts.json", "no_caption"))
    assert of_gqa() == {}


def test_a_repeat_of_what_was_rejected_is_missing_once(project: Path) -> None:
    add("read/gqa/texts.parquet", question("80", "3", "val"))
    add("read/gqa/findings.parquet", unread("texts", "80", "val.json", "duplicate_id"))
    assert of_gqa() == {"val": {"question": 1}}
    add("read/gqa/findings.parquet", unread("texts", "90", "val.json"))
    add("read/gqa/findings.parquet", unread("texts", "90", "val.json", "duplicate_id"))
    assert of_gqa() == {"val": {"question": 2}}


def test_a_note_of_cirr_is_no_pair(project: Path) -> None:
    notes = [by_hand.text(f"5.ext{n}", "a-img0", "edit", "a", split="train", source_file="x") for n in (0, 1)]
    add("read/cirr/texts.parquet", *notes, by_hand.CIRR_TEXTS[0] | {"text": "6", "split": "train"})
    add("read/cirr/findings.parquet", unread("texts", "7.ext", "x"))
    catalogue = pl.read_parquet("images/catalogue.parquet").filter(dataset="cirr")
    assert missing("cirr", catalogue) == {"train": {"edit": 1, "note": 3}}


@pytest.mark.parametrize("split", ["val", "test1"])
def test_every_pair_and_picture_of_a_split_of_cirr_is_in_a_shard_or_counted(
    annotated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    for name in ("params.yaml", "images", "read", "spans", "validate"):
        (tmp_path / name).symlink_to(annotated / name)
    monkeypatch.chdir(tmp_path)
    raw = annotated / "raw/demo/cirr"
    pairs = json.loads((raw / f"captions/cap.rc2.{split}.json").read_text())
    gallery = json.loads((raw / f"image_splits/split.rc2.{split}.json").read_text())
    catalogue = pl.read_parquet("images/catalogue.parquet").filter(dataset="cirr")
    held = pl.read_parquet("spans/cirr/texts.parquet").filter(split=split)
    told = missing("cirr", catalogue)[split]
    assert len(held) + told["edit"] == len(pairs) and told["edit"] > 0
    assert len(catalogue.filter(split=split)) + told.get("picture", 0) == len(gallery)


def test_a_manifest_of_before_says_nothing_is_missing(project: Path) -> None:
    shards.run(ARGS)
    path = Path("data", manifest.NAME)
    plain = msgspec.json.decode(path.read_bytes())
    del plain["missing"]
    path.write_bytes(msgspec.json.encode(plain))
    assert manifest.load(Path("data"), DataManifest).missing == {}
