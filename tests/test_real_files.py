"""The readers against the official files: CIRR val, parts of GQA and Visual Genome. Numbers are measured."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from contract.params import Dataset, Drop
from data_pipeline.reading.raw_files import RawFiles
from data_pipeline.reading.sources import reader, sources
from data_pipeline.tables import Block, Entity, Finding, Given, Image, PassedOver, Region, Row, Text


def rows(form: str, folder: Path, shards: dict[str, int], **options: object) -> dict[type, list]:
    """Every row a reader yields, by type."""
    dataset = Dataset(format=form, folder=str(folder), raw=[Drop(shards=shards)], options=options)
    found: dict[type, list[Any]] = {kind: [] for kind in (Image, Text, Region, Entity, Finding, PassedOver)}
    with RawFiles(folder) as raw_files:
        for source in sources(form, dataset, raw_files):
            for given in reader(form, "test")(source):
                for row in unfolded(given):
                    found[type(row)].append(row)
    return found


def unfolded(given: Given) -> list[Row | PassedOver]:
    """The rows of a block one by one."""
    if not isinstance(given, Block):
        return [given]
    cells = [dict(zip(given.columns, row, strict=True)) for row in given.rows]
    return [given.kind(**{**given.shared, **row}) for row in cells]


def flags(found: dict[type, list]) -> Counter[str]:
    return Counter(finding.reason for finding in found[Finding] if finding.outcome == "flag")


def rejects(found: dict[type, list]) -> Counter[str]:
    return Counter(finding.reason for finding in found[Finding] if finding.outcome == "reject")


def test_cirr_val(real_data: Path) -> None:
    found = rows("cirr", real_data / "cirr", {"val": 1})
    texts = found[Text]
    assert len(texts) == 4181 and len(found[Image]) == 2297 and not rejects(found)
    assert flags(found) == {"target_not_in_soft": 37, "target_soft_score": 5}
    assert all(len(text.members) == 5 and text.target[0] in text.members for text in texts)
    assert not any(text.picture in text.target for text in texts)


def test_cirr_pictures_lie_in_several_sets(real_data: Path) -> None:
    pairs = json.loads((real_data / "cirr/captions/cap.rc2.val.json").read_text())
    sets = {pair["img_set"]["id"]: frozenset(pair["img_set"]["members"]) for pair in pairs}
    times = Counter(member for members in sets.values() for member in members)
    found = rows("cirr", real_data / "cirr", {"val": 1})
    read = {frozenset([text.picture, *text.members]) for text in found[Text]}
    assert read == set(sets.values())
    assert sum(count > 1 for count in times.values()) == 549


@pytest.fixture
def visual_genome(real_data: Path, tmp_path: Path) -> Path:
    for path in (*(real_data / "vg").glob("*.json"), *(real_data / "vg/v1.4_subset").glob("*.json")):
        shutil.copy(path, tmp_path)
    return tmp_path


def test_visual_genome(visual_genome: Path) -> None:
    found = rows("visual_genome", visual_genome, {"train": 1})
    texts = {text.text: text for text in found[Text]}
    phrases = [region for region in found[Region] if region.region.startswith("r")]
    assert len(texts) == len(phrases) == 4161 and not rejects(found)
    assert len(found[Entity]) == 4629
    spelled = [texts[span.text].content[span.start : span.end] == span.name for span in found[Entity]]
    assert spelled.count(False) == 1
    assert sum(bool(span.regions) for span in found[Entity]) == pytest.approx(1051, abs=5)
    assert flags(found)["no_metadata"] == 1 and flags(found)["object_outside_region"] == 133
    declared = {(region.picture, region.region) for region in found[Region]}
    assert len(declared) == len(found[Region])
    linked = {(texts[span.text].picture, region) for span in found[Entity] for region in span.regions}
    assert linked <= declared
    assert {(text.picture, region) for text in texts.values() for region in text.about} <= declared


def test_visual_genome_without_graphs(visual_genome: Path) -> None:
    (visual_genome / "region_graphs.json").unlink()
    (visual_genome / "objects.json").unlink()
    found = rows("visual_genome", visual_genome, {"train": 1})
    assert len(found[Text]) == 4161 and not found[Entity]


@pytest.mark.parametrize(
    ("questions", "graphs"),
    [
        ("ood_testdev_head.json", None),
        ("emma/gqa_questions.json", "emma/gqa_scene_graph.json"),
        ("ood_testdev_head.json", "debug_sceneGraphs.json"),
    ],
)
def test_gqa_spans(real_data: Path, tmp_path: Path, questions: str, graphs: str | None) -> None:
    shutil.copy(real_data / "gqa" / questions, tmp_path / "train_balanced_questions.json")
    if graphs:
        shutil.copy(real_data / "gqa" / graphs, tmp_path / "train_sceneGraphs.json")
    found = rows("gqa", tmp_path, {"train": 1}, scene_graphs=graphs is not None)
    source = json.loads((tmp_path / "train_balanced_questions.json").read_text())
    contents = {text.text: text.content for text in found[Text]}
    assert not found[Finding]
    assert {text.text for text in found[Text] if text.role == "question"} == set(source)
    assert found[Entity] and all(0 <= span.start < span.end for span in found[Entity])
    for span in found[Entity]:
        first, _, last = span.span.partition(":")
        words = contents[span.text].split()[int(first) : int(last or int(first) + 1)]
        assert contents[span.text][span.start : span.end] == " ".join(words).rstrip("?,.")


def test_gqa_scene_graphs(real_data: Path, tmp_path: Path) -> None:
    shutil.copy(real_data / "gqa/debug_sceneGraphs.json", tmp_path / "val_sceneGraphs.json")
    (tmp_path / "val_balanced_questions.json").write_text("{}")
    found = rows("gqa", tmp_path, {"val": 1})
    graphs = json.loads((tmp_path / "val_sceneGraphs.json").read_text())
    assert [image.picture for image in found[Image]] == list(graphs)
    assert len(found[Region]) == sum(len(graph["objects"]) for graph in graphs.values())
    assert {image.source_ids[0] for image in found[Image]} == {f"vg:{picture}" for picture in graphs}
