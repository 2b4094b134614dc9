"""CIRR's captions_ext: notes on a pair, and the codes that stand where there is no note."""

import json
from pathlib import Path

import pytest
from test_real_files import rejects, rows

from contract.errors import RawDataError
from contract.index import is_cir, is_edit, is_pair, is_region, is_vqa
from contract.record import Text as RecordText
from data_pipeline.tables import Finding, Text

NAMES = [f"dev-{number}" for number in range(6)]


def cirr(folder: Path, *extended: object) -> Path:
    """A val split of one pair and these members of captions_ext."""
    pair = {"pairid": 1, "reference": "dev-0", "target_hard": "dev-1", "caption": "redder"}
    files = {
        "captions/cap.rc2.val.json": [pair | {"img_set": {"members": NAMES}}],
        "captions_ext/cap.ext.rc2.val.json": extended,
        "image_splits/split.rc2.val.json": {name: f"./dev/{name}.png" for name in NAMES},
    }
    for name, content in files.items():
        (folder / name).parent.mkdir()
        (folder / name).write_text(json.dumps(content))
    return folder


def notes(number: int = 1, reference: str = "dev-0", **texts: str) -> dict[str, object]:
    return {"pairid": number, "reference": reference, "target_hard": "dev-1", "caption_extend": texts}


def test_notes_are_read_when_asked_for(tmp_path: Path) -> None:
    cirr(tmp_path, notes(**{"0": "being a photo of bottles", "3": "add a pub"}))
    assert [text.text for text in rows("cirr", tmp_path, {"val": 1})[Text]] == ["1"]
    found = rows("cirr", tmp_path, {"val": 1}, captions_ext=True)
    assert [(text.text, text.type, text.content, text.split) for text in found[Text][1:]] == [
        ("1.ext0", "ext/0", "being a photo of bottles", "val"),
        ("1.ext3", "ext/3", "add a pub", "val"),
    ]
    assert not found[Finding]


def test_no_task_takes_a_note(tmp_path: Path) -> None:
    """It is neither true of the reference alone nor a query for the target."""
    found = rows("cirr", cirr(tmp_path, notes(**{"0": "has dogs"})), {"val": 1}, captions_ext=True)
    note = found[Text][1]
    record = RecordText(note.text, note.role, note.content, [1], type=note.type, target=note.target)  # type: ignore[arg-type]
    assert not any(usable(record) for usable in (is_vqa, is_pair, is_region, is_cir, is_edit))


@pytest.mark.parametrize(
    "code", ["[c] None existed", "[cr0] Nothing worth mentioning", "[cr1] Covered in query"]
)
def test_codes_are_counted_and_no_texts(tmp_path: Path, code: str) -> None:
    extended = notes(**{"0": code, "1": "[sic] a bracket of its own"})
    found = rows("cirr", cirr(tmp_path, extended), {"val": 1}, captions_ext=True)
    assert rejects(found) == {"no_caption": 1}
    (finding,) = found[Finding]
    assert (finding.id, finding.position, json.loads(finding.record)) == (
        "1.ext0",
        "/0/caption_extend/0",
        code,
    )
    assert found[Text][1].text == "1.ext1"


def test_bad_notes_cost_themselves(tmp_path: Path) -> None:
    extended = [
        notes(2, "dev-9", **{"0": "x", "1": "[c] None existed"}),
        {"pairid": 3, "reference": "dev-0"},
        4,
    ]
    found = rows("cirr", cirr(tmp_path, *extended), {"val": 1}, captions_ext=True)
    assert rejects(found) == {"unknown_picture": 2, "malformed": 2} and len(found[Text]) == 1


def test_notes_that_are_asked_for_must_be_there(tmp_path: Path) -> None:
    (cirr(tmp_path) / "captions_ext/cap.ext.rc2.val.json").unlink()
    with pytest.raises(RawDataError, match=r"cap\.ext\.rc2\.val\.json"):
        rows("cirr", tmp_path, {"val": 1}, captions_ext=True)
