"""Visual Genome's versions: what each calls things, what each leaves out, and attributes."""

import json
from pathlib import Path

import pytest
from test_real_files import flags, rejects, rows

from data_pipeline.tables import Entity, Finding, Image, Region, Text


def box(**fields: object) -> dict[str, object]:
    return {"x": 1, "y": 2, "w": 3, "h": 4, **fields}


def drop(folder: Path, **files: object) -> Path:
    """image_data and region_descriptions of picture 1, and other files by name."""
    metadata = [{"image_id": 1, "width": 9, "height": 9, "coco_id": 33, "flickr_id": 44}]
    phrase = {"region_id": 10, "x": 0, "y": 0, "width": 9, "height": 9, "phrase": "a red cat"}
    defaults = {"image_data": metadata, "region_descriptions": [{"id": 1, "regions": [phrase]}]}
    for name, content in (defaults | files).items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


VERSIONS = {  # the key of a picture's entry, and its objects
    "1.0": ("id", [box(id=5, names=["cat"]), box(id=6, names=["mat", "rug"])]),
    "1.2": (
        "image_id",
        [box(object_id=5, names=["cat"], synsets=["cat.n.01"]), box(object_id=6, names=["mat"], synsets=[])],
    ),
    "1.4": (
        "image_id",
        [
            box(object_id=5, names=["cat"], synsets=[], merged_object_ids=[7, 8]),
            box(object_id=6, names=["mat"], synsets=["mat.n.01"], merged_object_ids=[]),
        ],
    ),
}


def objects_of(version: str) -> list[dict[str, object]]:
    """objects.json of that version."""
    root, objects = VERSIONS[version]
    return [{root: 1, "image_url": "https://x/1.jpg", "objects": objects}]


GRAPH_PHRASES = [
    ({}, 1, {}),
    ({"phrase": "a red cat"}, 1, {}),
    ({"phrase": " a red cat"}, 0, {"phrase_differs": 1}),
    ({"phrase": "the red cat"}, 0, {"phrase_differs": 1}),
]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_gives_the_same_objects(tmp_path: Path, version: str) -> None:
    found = rows("visual_genome", drop(tmp_path, objects=objects_of(version)), {"train": 1})
    things = [region for region in found[Region] if region.region.startswith("o")]
    assert [(thing.picture, thing.region, thing.name) for thing in things] == [
        ("1", "o5", "cat"),
        ("1", "o6", "mat"),
    ]
    assert all((thing.x, thing.y, thing.w, thing.h) == (1, 2, 3, 4) for thing in things)
    assert not found[Finding]


@pytest.mark.parametrize("version", VERSIONS)
def test_attributes_join_their_objects(tmp_path: Path, version: str) -> None:
    """Half of the objects of attributes.json have no `attributes` at all; merged objects share theirs."""
    key = "id" if version == "1.0" else "object_id"
    things = [box(**{key: 6}, names=["mat"]), box(**{key: 5}, attributes=["red", "furry"])]
    if version == "1.4":
        things.append(box(**{key: 8}, attributes=["red", "asleep"]))
    files = {"objects": objects_of(version), "attributes": [{VERSIONS[version][0]: 1, "attributes": things}]}
    found = rows("visual_genome", drop(tmp_path, **files), {"train": 1})
    words = {region.region: region.attributes for region in found[Region]}
    assert words == {"r10": [], "o5": ["red", "furry", "asleep"][: 3 if version == "1.4" else 2], "o6": []}
    assert not found[Finding]


def test_attributes_without_an_object_are_flagged(tmp_path: Path) -> None:
    lost = [box(object_id=99, attributes=["blue"]), box(object_id=98), {"attributes": ["no id"]}, 3]
    attributes = [
        {"image_id": 1, "attributes": lost},
        {"image_id": 1, "attributes": [box(object_id=5, attributes=["red"])]},
        {"image_id": 2, "attributes": [box(object_id=7, attributes=["big"])]},
        {"attributes": []},
    ]
    found = rows(
        "visual_genome", drop(tmp_path, objects=objects_of("1.2"), attributes=attributes), {"train": 1}
    )
    assert not rejects(found) and flags(found) == {"object_unlisted": 2, "malformed": 3}
    assert {f.id for f in found[Finding] if f.reason == "object_unlisted"} == {"1/o99", "2/o7"}
    assert [region.attributes for region in found[Region]] == [[], ["red"], []]


def test_attributes_alone_have_nothing_to_describe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attributes = [{"image_id": 1, "attributes": [box(object_id=5, attributes=["red"])]}]
    found = rows("visual_genome", drop(tmp_path, attributes=attributes), {"train": 1})
    assert [region.region for region in found[Region]] == ["r10"]
    assert "no objects.json" in capsys.readouterr().err


def test_graphs_without_synsets_or_objects(tmp_path: Path) -> None:
    """Most regions list no object; then a span has no link, and the first version has no synsets."""
    region = {"region_id": 10, "x": 0, "y": 0, "width": 9, "height": 9, "phrase": "a red cat"}
    synset = {"entity_name": "cat", "synset_name": "cat.n.01", "entity_idx_start": 6, "entity_idx_end": 9}
    graphs = [{"image_id": 1, "regions": [region, region | {"synsets": [synset]}]}]
    found = rows("visual_genome", drop(tmp_path, region_graphs=graphs), {"train": 1})
    assert [(span.text, span.start, span.end, span.regions) for span in found[Entity]] == [("10", 6, 9, [])]


@pytest.mark.parametrize(("phrase", "spans", "found"), GRAPH_PHRASES)
def test_spans_of_another_phrase_are_rejected(
    tmp_path: Path, phrase: dict[str, str], spans: int, found: dict[str, int]
) -> None:
    """A region graph counts characters of its own copy of the phrase."""
    synset = {"entity_name": "cat", "synset_name": "cat.n.01", "entity_idx_start": 6, "entity_idx_end": 9}
    region = {"region_id": 10, "x": 0, "y": 0, "width": 9, "height": 9, "synsets": [synset], **phrase}
    graphs = [{"image_id": 1, "regions": [region]}]
    read = rows("visual_genome", drop(tmp_path, region_graphs=graphs), {"train": 1})
    assert len(read[Entity]) == spans and rejects(read) == found
    if found:
        (finding,) = read[Finding]
        assert (finding.table, finding.id) == ("entities", "10/6:9")
        assert finding.detail == f"here: {phrase['phrase']}"


def test_a_photograph_is_known_by_its_other_ids(tmp_path: Path) -> None:
    (image,) = rows("visual_genome", drop(tmp_path), {"train": 1})[Image]
    assert image.source_ids == ["vg:1", "coco:33", "flickr:44"]


def test_phrases_are_kept_as_they_stand(tmp_path: Path) -> None:
    phrase = {"region_id": 10, "x": 0, "y": 0, "width": 9, "height": 9, "phrase": " a  red\ncat "}
    (text,) = rows(
        "visual_genome",
        drop(tmp_path, region_descriptions=[{"image_id": 1, "regions": [phrase]}]),
        {"train": 1},
    )[Text]
    assert text.content == " a  red\ncat " and text.about == ["r10"]
