"""Provenance: the raw files that a read opened, and what they were."""

import hashlib
import json
from pathlib import Path

import pytest
from test_reader_gqa import gqa, question

from contract import params
from data_pipeline.reading.raw_files import RawFiles
from data_pipeline.stages.read import read_dataset


def test_a_read_names_its_files_and_no_others(tmp_path: Path) -> None:
    """In the order in which they were read; a folder of named files is not named itself."""
    (tmp_path / "raw/new/train_all_questions").mkdir(parents=True)
    gqa(tmp_path / "raw/new", {})
    parts = [f"train_all_questions/train_all_questions_{part}.json" for part in range(10)]
    for part, place in enumerate(parts):
        (tmp_path / "raw/new" / place).write_text(json.dumps({str(part): question()}))
    drop = params.Drop(path="new", shards={"train": 1})
    dataset = params.Dataset("gqa", str(tmp_path / "raw"), [drop], options={"questions": "all"})
    read_dataset("gqa", dataset, tmp_path / "read", {})
    found = json.loads((tmp_path / "read/files.json").read_text())
    assert list(found) == [f"new/{place}" for place in ("train_sceneGraphs.json", *parts)]
    content = (tmp_path / "raw/new" / parts[3]).read_bytes()
    assert found[f"new/{parts[3]}"] == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda folder: (folder / "b/2.txt").write_text("two"), True),
        (lambda folder: (folder / "b/2.txt").write_text("tow"), False),
        (lambda folder: (folder / "b/2.txt").rename(folder / "b/3.txt"), False),
        (lambda folder: (folder / "1.txt").unlink(), False),
    ],
)
def test_a_folder_is_its_files(tmp_path: Path, change, same: bool) -> None:
    """Files that a reader opens by the thousand stand as one line: any change of name or byte changes it."""
    folder = tmp_path / "Sentences"
    (folder / "b").mkdir(parents=True)
    (folder / "1.txt").write_text("1")
    (folder / "b/2.txt").write_text("two")

    def facts() -> dict:
        with RawFiles(tmp_path) as raw_files:
            raw_files.note(folder)
            return dict(raw_files.facts())

    before = facts()
    assert list(before) == ["Sentences"] and before["Sentences"]["bytes"] == 4
    change(folder)
    assert (facts() == before) is same
