"""Readers on small hand-made files: what is rejected, what stops them, what they say."""

import json
from pathlib import Path

import pytest
from test_reader_gqa import gqa
from test_real_files import rejects, rows

from contract.errors import ParamsError, RawDataError
from data_pipeline.reading.sources import reader
from data_pipeline.tables import Entity, Finding, Image, Region, Text


@pytest.mark.parametrize(
    ("form", "official"), [("gqa", "GQA site"), ("cirr", "CIRR"), ("visual_genome", "Visual Genome")]
)
def test_a_missing_folder_names_the_download(tmp_path: Path, form: str, official: str) -> None:
    with pytest.raises(RawDataError, match="no such folder") as error:
        rows(form, tmp_path / "absent", {"train": 1})
    assert official in str(error.value) and "absent" in str(error.value)


def test_unknown_format_lists_the_formats() -> None:
    with pytest.raises(ParamsError, match="cirr, .*gqa, .*visual_genome") as error:
        reader("visual_genom", "params.yaml")
    assert "did you mean 'visual_genome'" in str(error.value)


def test_unknown_option_is_an_error(tmp_path: Path) -> None:
    for form in ("gqa", "cirr", "visual_genome"):
        with pytest.raises(ParamsError, match="shuffle"):
            rows(form, tmp_path, {"train": 1}, shuffle=True)


SIX = [f"dev-{number}" for number in range(6)]


def cirr(folder: Path, *pairs: object) -> Path:
    (folder / "captions").mkdir()
    (folder / "image_splits").mkdir()
    (folder / "captions/cap.rc2.val.json").write_text(json.dumps(pairs))
    gallery = {name: f"./dev/{name}.png" for name in [*SIX, "dev-lonely"]}
    (folder / "image_splits/split.rc2.val.json").write_text(json.dumps(gallery))
    return folder


def pair(number: int, **fields: object) -> dict[str, object]:
    soft = {"dev-1": 1.0, "dev-5": 0.2, "dev-4": 0.5, "dev-3": 0.5, "dev-2": -1.0, "dev-0": 1.0}
    whole = {"reference": "dev-0", "target_hard": "dev-1", "target_soft": soft, "caption": "redder"}
    return {"pairid": number, **whole, "img_set": {"id": 1, "members": SIX}, **fields}


def test_cirr_targets_members_and_gallery(tmp_path: Path) -> None:
    found = rows("cirr", cirr(tmp_path, pair(1)), {"val": 1})
    (text,) = found[Text]
    assert text.target == ["dev-1", "dev-3", "dev-4", "dev-5"] and text.members == SIX[1:]
    assert [image.picture for image in found[Image]] == [*SIX, "dev-lonely"]
    assert found[Image][0].file == "img_raw/dev/dev-0.png" and found[Image][0].source_ids == ["cirr:dev-0"]


def test_a_soft_target_outside_the_gallery_is_left_out(tmp_path: Path) -> None:
    soft = {"dev-1": 1.0, "train-9": 0.9, "dev-2": 0.5}
    found = rows("cirr", cirr(tmp_path, pair(1, target_soft=soft)), {"val": 1})
    assert found[Text][0].target == ["dev-1", "dev-2"]
    assert [(f.outcome, f.reason, f.detail) for f in found[Finding]] == [
        ("flag", "unknown_picture", "soft targets left out: train-9")
    ]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"caption": None}, "malformed"),
        ({"img_set": {"members": SIX[:5]}}, "wrong_members"),
        ({"img_set": {"members": [*SIX[:5], "dev-0"]}}, "wrong_members"),
        ({"reference": "dev-lonely"}, "wrong_members"),
        ({"target_hard": "dev-lonely"}, "wrong_members"),
        ({"target_hard": "dev-absent"}, "unknown_picture"),
        ({"reference": "dev-absent"}, "unknown_picture"),
        ({"img_set": {"members": [*SIX[:5], "dev-absent"]}}, "unknown_picture"),
    ],
)
def test_cirr_rejects(tmp_path: Path, fields: dict[str, object], reason: str) -> None:
    found = rows("cirr", cirr(tmp_path, pair(1, **fields), pair(2)), {"val": 1})
    assert rejects(found) == {reason: 1} and [text.text for text in found[Text]] == ["2"]
    assert found[Finding][0].id == "1" and found[Finding][0].position == "/0"


def region(number: int, **fields: object) -> dict[str, object]:
    return {"region_id": number, "x": 0, "y": 0, "width": 9, "height": 9, "phrase": "a red cat", **fields}


def visual_genome(folder: Path, **files: object) -> Path:
    metadata = [{"image_id": 1, "width": 9, "height": 9, "coco_id": 33, "url": "https://x/VG_100K_2/1.jpg"}]
    defaults = {"image_data": metadata, "region_descriptions": [{"id": 1, "regions": [region(10)]}]}
    for name, content in (defaults | files).items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def thing(number: int, **fields: object) -> dict[str, object]:
    return {"object_id": number, "x": 1, "y": 1, "w": 2, "h": 2, **fields}


def test_visual_genome_links_spans_to_objects(tmp_path: Path) -> None:
    objects = [{"image_id": 1, "objects": [thing(5, names=["cat"], merged_object_ids=[6])]}]
    synset = {"entity_name": "cat", "synset_name": "cat.n.01", "entity_idx_start": 6, "entity_idx_end": 9}
    inside = [
        thing(6, name="kitty", synsets=["cat.n.01"]),
        thing(7, name="dog", synsets=[]),
        thing(7, name="dog"),
    ]
    graphs = [{"image_id": 1, "regions": [region(10, synsets=[synset], objects=inside)]}]
    found = rows(
        "visual_genome", visual_genome(tmp_path, objects=objects, region_graphs=graphs), {"train": 1}
    )
    assert [(span.text, span.span, span.name, span.regions) for span in found[Entity]] == [
        ("10", "6:9", "cat", ["o5"])
    ]
    assert [box.region for box in found[Region]] == ["r10", "o5", "o7"]
    assert [(finding.reason, finding.id) for finding in found[Finding]] == [("object_unlisted", "1/o7")]
    assert found[Image][0].source_ids == ["vg:1", "coco:33"] and found[Image][0].file == "VG_100K_2/1.jpg"


def test_visual_genome_without_metadata_looks_in_both_folders(tmp_path: Path) -> None:
    (tmp_path / "VG_100K_2").mkdir()
    (tmp_path / "VG_100K_2/2.jpg").touch()
    regions = [{"id": 2, "regions": [region(10)]}, {"id": 3, "regions": [{"region_id": 11}]}]
    found = rows("visual_genome", visual_genome(tmp_path, region_descriptions=regions), {"train": 1})
    assert [image.file for image in found[Image]][1:] == ["VG_100K_2/2.jpg", "VG_100K/3.jpg"]
    assert [finding.reason for finding in found[Finding]] == ["no_metadata", "no_metadata", "malformed"]
    assert found[Finding][2].id == "11" and found[Finding][2].position == "/1/regions/0"


def test_visual_genome_first_version_of_objects(tmp_path: Path) -> None:
    objects = [{"id": 1, "objects": [{"id": 5, "x": 1, "y": 1, "w": 2, "h": 2, "names": ["cat"]}, {"x": 1}]}]
    found = rows("visual_genome", visual_genome(tmp_path, objects=objects), {"train": 1})
    assert [(box.region, box.name) for box in found[Region]][1:] == [("o5", "cat")]
    assert rejects(found) == {"malformed": 1}


@pytest.mark.parametrize("size", [3_000_000_000, int("9" * 30)])
def test_a_size_beyond_all_pictures_is_malformed(tmp_path: Path, size: int) -> None:
    metadata = [{"image_id": 1, "width": size, "height": 9}]
    found = rows("visual_genome", visual_genome(tmp_path, image_data=metadata), {"train": 1})
    assert rejects(found) == {"malformed": 1}
    found = rows("gqa", gqa(tmp_path, {}, {"7": {"width": size, "height": 9}}), {"train": 1})
    assert [finding.reason for finding in found[Finding]] == ["malformed"]


def test_an_entry_that_names_no_picture_is_malformed(tmp_path: Path) -> None:
    entries = [{"regions": [region(10)]}, {"id": 1, "regions": [region(11)]}]
    found = rows("visual_genome", visual_genome(tmp_path, region_descriptions=entries), {"train": 1})
    assert [text.text for text in found[Text]] == ["11"]
    assert [(finding.id, finding.reason) for finding in found[Finding]] == [
        ("region_descriptions.json/0", "malformed")
    ]


@pytest.mark.parametrize(
    ("split", "target", "reason"),
    [
        ("train", None, "malformed"),
        ("val", None, "malformed"),
        ("test1", None, None),
        ("train", "p0", "target_is_reference"),
        ("train", "p1", None),
    ],
)
def test_cirr_targets(tmp_path: Path, split: str, target: str | None, reason: str | None) -> None:
    names = [f"p{number}" for number in range(6)]
    pair = {"pairid": 1, "reference": "p0", "caption": "redder", "img_set": {"members": names}}
    files = {f"image_splits/split.rc2.{split}.json": {name: f"./{name}.png" for name in names}}
    files[f"captions/cap.rc2.{split}.json"] = [pair | ({"target_hard": target} if target else {})]  # type: ignore[assignment]
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    found = rows("cirr", tmp_path, {split: 1})
    assert [finding.reason for finding in found[Finding]] == ([reason] if reason else [])
    assert [text.split for text in found[Text]] == ([] if reason else [split])
