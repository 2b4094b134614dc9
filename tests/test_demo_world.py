"""The generated world: official forms, true answers, nothing to guess, and exactly the defects it lists."""

import argparse
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as rle

from contract.errors import ParamsError
from contract.params import Demo, DemoCirr, DemoGqa
from data_pipeline.demo import gqa, relations, visual_genome
from data_pipeline.demo.render import background, draw
from data_pipeline.demo.scene import CELLS, COLORS, MATERIALS, SIZES, sample_scene
from data_pipeline.demo.world import LEAST, build
from data_pipeline.pictures.identity import look_alikes
from data_pipeline.pictures.picture_files import perceptual_hash, thumb
from data_pipeline.stages import demo as stage

SMALL = Demo(
    gqa=DemoGqa(train=60, val=20, testdev=8),
    questions=9,
    cirr=DemoCirr(train=36, val=24, test1=12),
    visual_genome=36,
    coco=24,
)
Finding = tuple[str, str, str, str, str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    build(folder, SMALL, 3, silent, workers=1)
    return folder


def silent(drawn: int, total: int) -> None:
    """Nobody watches."""


def load(world: Path, name: str) -> Any:
    return json.loads((world / name).read_bytes())


def questions(world: Path, *splits: str) -> dict[str, dict[str, Any]]:
    splits = splits or ("train", "val", "testdev")
    return {q: r for split in splits for q, r in load(world, f"gqa/{split}_balanced_questions.json").items()}


def graphs(world: Path) -> dict[str, dict[str, Any]]:
    return load(world, "gqa/train_sceneGraphs.json") | load(world, "gqa/val_sceneGraphs.json")


def listed(world: Path) -> Counter[Finding]:
    rows = load(world, "defects.json")["defects"]
    return Counter((row["dataset"], row["table"], row["id"], row["reason"], row["outcome"]) for row in rows)


def victims(world: Path, dataset: str, table: str) -> set[str]:
    return {finding[2] for finding in listed(world) if finding[:2] == (dataset, table)}


def opened(path: Path) -> Image.Image:
    """Decoded, or OSError."""
    with Image.open(BytesIO(path.read_bytes())) as image:
        image.load()
        return image


# ---- bytes and pictures --------------------------------------------------------------------------------


def test_same_seed_same_bytes_in_one_process_and_in_two(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    build(one, LEAST, 1, silent, workers=1)
    build(two, LEAST, 1, silent, workers=2)
    content = [
        {str(path.relative_to(root)): path.read_bytes() for path in files(root)} for root in (one, two)
    ]
    assert content[0] == content[1]


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def test_a_world_too_small_for_its_defects_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"cirr\.val is too small"):
        build(tmp_path, Demo(cirr=DemoCirr(train=24, val=5, test1=6)), 0, silent)


def test_no_two_pictures_look_alike_but_the_planted_copies(world: Path) -> None:
    by_content = {path.read_bytes(): path for path in files(world) if path.suffix in (".jpg", ".png")}
    paths, hashes, thumbs = [], [], []
    for path in by_content.values():
        if path.stem not in truncated(world):
            pixels = np.asarray(opened(path).convert("RGB"))
            paths.append(path.stem)
            hashes.append(perceptual_hash(pixels))
            thumbs.append(np.frombuffer(thumb(pixels), np.uint8))
    alike = set(look_alikes(np.array(hashes, np.uint64), np.array(thumbs)))
    copies = {id for _, _, id, reason, _ in listed(world) if reason == "in_evaluation_split"}
    encoded_again = {picture for picture in copies if picture.isdigit()}  # the others are equal byte for byte
    assert len(alike) == len(encoded_again)
    assert {paths[a] for a, _ in alike} | {paths[b] for _, b in alike} >= encoded_again


def truncated(world: Path) -> set[str]:
    return {id for _, _, id, reason, _ in listed(world) if reason == "picture_damaged"}


def test_pictures_vary_in_size_mode_and_format(world: Path) -> None:
    shown = [
        opened(path)
        for path in files(world)
        if path.suffix in (".jpg", ".png") and path.stem not in truncated(world)
    ]
    assert {image.mode for image in shown} == {"RGB", "L", "RGBA"}
    assert {image.format for image in shown} == {"JPEG", "PNG"}
    assert len({image.size for image in shown}) > len(shown) // 4
    assert any(image.height > image.width for image in shown)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_things_fill_their_boxes_and_stand_apart(seed: int) -> None:
    scene = sample_scene(seed, "scene", 0)
    changed = (np.asarray(draw(scene, seed), int) != np.asarray(background(scene, seed), int)).any(axis=2)
    for thing in scene.things:
        x, y, w, h = thing.box
        assert min(x, y) >= 0 and x + w <= scene.width and y + h <= scene.height
        assert min(w * CELLS / scene.width, h * CELLS / scene.height) >= 1.3
        inside = changed[y : y + h, x : x + w].copy()
        assert inside.any(axis=0)[[0, 1, -2, -1]].sum() >= 3 and inside.any(axis=1)[[0, 1, -2, -1]].sum() >= 3
        changed[y : y + h, x : x + w] = False
    assert not changed.any()


# ---- GQA -----------------------------------------------------------------------------------------------


def test_question_ids_are_strings_and_half_begin_with_zero(world: Path) -> None:
    ids = list(questions(world))
    assert len(set(ids)) == len(ids)
    assert 0.4 < np.mean([qid.startswith("0") for qid in ids]) < 0.6
    per_picture = Counter(record.get("imageId") for record in questions(world).values())
    assert np.mean(list(per_picture.values())) >= 8.5
    assert all(
        picture.startswith("n")
        for picture in Counter(r["imageId"] for r in questions(world, "testdev").values())
    )


def test_spans_name_or_describe_their_thing(world: Path) -> None:
    spoiled = victims(world, "gqa", "entities") | victims(world, "gqa", "texts")
    things = {number: thing for graph in graphs(world).values() for number, thing in graph["objects"].items()}
    checked = 0
    for qid, record in questions(world, "train", "val").items():
        for field, text in (("question", qid), ("fullAnswer", f"{qid}.full")):
            if qid in spoiled or any(entity.startswith(f"{text}/") for entity in spoiled):
                continue
            for key, number in record["annotations"][field].items():
                words = decode_span(record[field], key).split()
                name, attributes = things[number]["name"], things[number]["attributes"]
                assert words[-1] in (name, "object") and set(words[:-1]) <= set(attributes)
                checked += 1
    assert checked > 500


def decode_span(text: str, key: str) -> str:
    first, _, last = key.partition(":")
    tokens = text.split()
    end = int(last) if last else int(first) + 1
    assert 0 <= int(first) < end <= len(tokens)
    return " ".join(tokens[int(first) : end]).rstrip("?,.")


def test_the_program_run_on_the_scene_graph_gives_the_answer(world: Path) -> None:
    changed = {id for _, _, id, reason, _ in listed(world) if reason == "conflicting_answers"}
    seen = graphs(world)
    for qid, record in questions(world, "train", "val").items():
        if qid not in changed and "imageId" in record:
            assert run_program(record["semantic"], seen[record["imageId"]]) == record["answer"], record


def run_program(program: list[dict[str, Any]], graph: dict[str, Any]) -> str:
    """An interpreter that knows the scene graph only. A set of object ids, a truth or a word per step."""
    results: list[Any] = []
    for step in program:
        inputs = [results[number] for number in step["dependencies"]]
        verb, _, what = step["operation"].partition(" ")
        results.append(STEPS[verb](graph, what, step["argument"], *inputs))
    return {True: "yes", False: "no"}.get(results[-1], results[-1])


def value(graph: dict[str, Any], kind: str, things: set[str]) -> str:
    (number,) = things
    thing = graph["objects"][number]
    known = {"color": COLORS, "size": SIZES, "material": MATERIALS}.get(kind, ())
    return thing["name"] if kind == "name" else next(word for word in thing["attributes"] if word in known)


def stands(graph: dict[str, Any], anchor: set[str], argument: str) -> set[str]:
    _, relation, _ = argument.rpartition(" (")[0].split(",")
    wanted = {argument.rpartition("(")[2].rstrip(")")}
    clear = {
        n for n, t in graph["objects"].items() if {"name": relation, "object": min(anchor)} in t["relations"]
    }
    assert clear == wanted or not wanted <= set(graph["objects"]), "the question has several answers"
    return clear


def on_side(graph: dict[str, Any], anchor: set[str], argument: str) -> str:
    options = argument.rpartition(" (")[0].split(",")[1].split("|")
    subject = graph["objects"][argument.rpartition("(")[2].rstrip(")")]
    (said,) = [o for o in options if {"name": o, "object": min(anchor)} in subject["relations"]] or [""]
    return said


SHORT = {"to the left of": "left", "to the right of": "right", "above": "above", "below": "below"}


def chosen(graph: dict[str, Any], kind: str, argument: str, things: set[str]) -> str:
    if kind == "rel":
        return SHORT[on_side(graph, things, argument)]
    answer = value(graph, kind, things)
    assert answer in argument.split("|")
    return answer


STEPS = {
    "select": lambda graph, _, argument: {
        number
        for number, thing in graph["objects"].items()
        if thing["w"] and argument.split(" (")[0] in (thing["name"], "object")
    },
    "filter": lambda graph, kind, wanted, things: {n for n in things if value(graph, kind, {n}) == wanted},
    "relate": lambda graph, _, argument, things: stands(graph, things, argument),
    "query": lambda graph, _, kind, things: value(graph, kind, things),
    "choose": lambda graph, kind, argument, things: chosen(graph, kind, argument, things),
    "verify": lambda graph, kind, argument, things: (
        bool(on_side(graph, things, argument)) if kind == "rel" else value(graph, kind, things) == argument
    ),
    "exist": lambda graph, _, argument, things: bool(things),
    "and": lambda graph, _, argument, a, b: a and b,
    "or": lambda graph, _, argument, a, b: a or b,
    "same": lambda graph, kind, argument, a, b: value(graph, kind, a) == value(graph, kind, b),
}


def test_grey_pictures_are_never_asked_about_colours(world: Path) -> None:
    grey = {
        path.stem
        for path in files(world / "gqa")
        if path.suffix == ".jpg" and path.stem not in truncated(world) and opened(path).mode == "L"
    }
    texts = [
        str(r.get("question")) + r["fullAnswer"]
        for r in questions(world).values()
        if r.get("imageId") in grey
    ]
    assert texts
    assert not [text for text in texts if re.search(rf"\b(color|{'|'.join(COLORS)})\b", text)]


def test_whoever_does_not_look_at_the_picture_stays_near_chance() -> None:
    made = gqa.generate(DemoGqa(train=1500, val=400, testdev=1), 9, 11, [])
    by_text: dict[str, Counter[str]] = defaultdict(Counter)
    by_type: dict[str, Counter[str]] = defaultdict(Counter)
    for record in made.questions["train"].values():
        by_text[record["question"]][record["answer"]] += 1
        by_type[kind_of(record)][record["answer"]] += 1
    hits: dict[str, list[bool]] = defaultdict(list)
    for record in made.questions["val"].values():
        guess = (by_text.get(record["question"]) or by_type[kind_of(record)]).most_common(1)[0][0]
        hits[kind_of(record)].append(guess == record["answer"])
    rates = {kind: float(np.mean(some)) for kind, some in hits.items()}
    for kind, rate in rates.items():
        assert rate < CHANCE[kind.split("/")[-1]] + 0.09, rates
    yes_or_no = sum(r["answer"] in ("yes", "no") for r in made.questions["val"].values())
    assert yes_or_no <= 0.4 * len(made.questions["val"])
    expected = np.average(
        [CHANCE[kind.split("/")[-1]] for kind in hits], weights=[len(some) for some in hits.values()]
    )
    assert np.average(list(rates.values()), weights=[len(some) for some in hits.values()]) < expected + 0.04


# Of a guess that knows the question: "above or below" leaves two answers, "left of the cube" five names.
CHANCE = {"color": 1 / 7, "material": 1 / 3, "name": 1 / 5, "two": 1 / 2}


def kind_of(record: dict[str, Any]) -> str:
    types = f"{record['types']['structural']}/{record['types']['semantic']}"
    asked = record["semantic"][-1]
    return f"{types}/{asked['argument'] if asked['operation'] == 'query' else 'two'}"


def test_questions_of_sides_are_asked_where_the_side_is_clear() -> None:
    made = gqa.generate(DemoGqa(train=60, val=1, testdev=1), 9, 5, [])
    asked = 0
    for record in made.questions["train"].values():
        for relation in relations.RELATIONS:
            if record["types"]["semantic"] == "rel" and f"is {relation} the" in record["fullAnswer"]:
                scene = made.scenes["train"][record["imageId"]]
                a, b = (int(number) for number in record["annotations"]["fullAnswer"].values())
                things = {thing.id: thing for thing in scene.things}
                axis = 0 if "the" in relation else 1
                apart = abs(scene.cell(things[a])[axis] - scene.cell(things[b])[axis])
                assert apart >= 1.5
                asked += 1
    assert asked > 60


# ---- CIRR, Visual Genome, COCO -------------------------------------------------------------------------


def test_image_sets_hold_six_and_overlap(world: Path) -> None:
    spoiled = victims(world, "cirr", "texts")
    for split, folder in (("train", r"train/\d{1,2}"), ("val", "dev"), ("test1", "test1")):
        paths = load(world, f"cirr/image_splits/split.rc2.{split}.json")
        assert all(re.fullmatch(rf"\./{folder}/{picture}\.png", path) for picture, path in paths.items())
        rows = [
            row
            for row in load(world, f"cirr/captions/cap.rc2.{split}.json")
            if str(row["pairid"]) not in spoiled
        ]
        for row in rows:
            members, ranks = row["img_set"]["members"], row["img_set"]
            assert len(members) == len(set(members)) == 6 and set(members) <= set(paths)
            assert members[ranks["reference_rank"]] == row["reference"]
            assert ("target_hard" in row) == (split != "test1")
            if split != "test1":
                assert members[ranks["target_rank"]] == row["target_hard"] != row["reference"]
                assert row["target_soft"][row["target_hard"]] == 1.0
        sets = {frozenset(row["img_set"]["members"]) for row in rows}
        assert max(Counter(picture for members in sets for picture in members).values()) > 1
        assert len(rows) >= 6 * len(sets)


def test_visual_genome_spans_spell_their_names(world: Path) -> None:
    spoiled = victims(world, "visual_genome", "entities")
    phrases = [graph["phrase"] for graph in region_graphs(world)]
    for graph in region_graphs(world):
        for span in graph["synsets"]:
            start, end = span["entity_idx_start"], span["entity_idx_end"]
            if f"{graph['region_id']}/{start}:{end}" not in spoiled:
                assert graph["phrase"][start:end] == span["entity_name"]
    assert any(phrase != phrase.strip() for phrase in phrases)


def region_graphs(world: Path) -> Iterator[dict[str, Any]]:
    for picture in load(world, "visual_genome/region_graphs.json"):
        yield from picture["regions"]


def test_white_space_of_every_legal_kind_turns_up() -> None:
    made = visual_genome.generate({i: sample_scene(0, f"k{i}", 10 * i) for i in range(200)}, {}, 0)
    phrases = [row["phrase"] for rows in made.regions.values() for row in rows]
    for pattern in (r"^ \S", r"\S $", r"\S  \S", r"\n"):
        assert any(re.search(pattern, phrase) for phrase in phrases), pattern


def test_shared_pictures_are_the_same_bytes(world: Path) -> None:
    rows = load(world, "visual_genome/image_data.json")
    splits = {
        split: {r.get("imageId") for r in questions(world, split).values()} for split in ("train", "val")
    }
    shared = [row for row in rows if str(row["image_id"]) in splits["train"] | splits["val"]]
    assert 0 < len(shared) < len(rows) and any(str(row["image_id"]) in splits["val"] for row in shared)
    for row in shared:
        path = world / "visual_genome" / row["url"].split("rak248/")[1]
        assert path.read_bytes() == (world / f"gqa/images/{row['image_id']}.jpg").read_bytes()
    photos = [row for row in rows if row["coco_id"]]
    assert photos
    for row in photos:
        path = world / "visual_genome" / row["url"].split("rak248/")[1]
        (photo,) = (world / "coco").glob(f"*2017/{row['coco_id']:012d}.jpg")
        assert path.read_bytes() == photo.read_bytes()
        opposite = "train" if photo.parent.name == "val2017" else "val"
        assert str(row["image_id"]) not in splits[opposite]


def test_merged_object_ids_are_used(world: Path) -> None:
    merged = {
        number
        for picture in load(world, "visual_genome/objects.json")
        for thing in picture["objects"]
        for number in thing["merged_object_ids"]
    }
    assert merged & {thing["object_id"] for graph in region_graphs(world) for thing in graph["objects"]}


def test_coco_masks_agree_with_their_boxes(world: Path) -> None:
    crowds = 0
    for split in ("train", "val"):
        content = load(world, f"coco/annotations/instances_{split}2017.json")
        sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
        spoiled = victims(world, "coco", "regions")
        for row in content["annotations"]:
            if f"{row['image_id']}/{row['id']}" in spoiled:
                continue
            height, width = sizes[row["image_id"]]
            found = rle.frPyObjects(row["segmentation"], height, width)
            runs = found if row["iscrowd"] else rle.merge(found)
            assert np.allclose(rle.toBbox(runs), row["bbox"], atol=4)
            assert rle.area(runs) == pytest.approx(row["area"], rel=0.12)
            crowds += row["iscrowd"]
    assert crowds
    captions = load(world, "coco/annotations/captions_val2017.json")["annotations"]
    assert set(Counter(row["image_id"] for row in captions).values()) == {5}


# ---- defects: an audit that knows the formats, and not how they were planted ---------------------


def test_the_defects_listed_are_those_that_an_audit_finds(world: Path) -> None:
    audits = (audit_gqa, audit_cirr, audit_visual_genome, audit_coco, audit_copies)
    assert Counter(found for audit in audits for found in audit(world)) == listed(world)


def test_every_kind_of_defect_is_planted_and_counted(world: Path) -> None:
    counts = load(world, "defects.json")["counts"]
    assert counts == Counter(
        f"{dataset}/{reason}/{outcome}" for dataset, _, _, reason, outcome in listed(world)
    )
    assert {key.split("/", 1)[1] for key in counts} == {
        *(f"{reason}/reject" for reason in REJECTS),
        *(f"{reason}/flag" for reason in FLAGS),
        "box_overhang/repair",
    }


REJECTS = [
    "picture_missing",
    "picture_damaged",
    "in_evaluation_split",
    "malformed",
    "blank_text",
    "conflicting_answers",
    "unknown_picture",
    "wrong_members",
    "size_differs",
    "box_inverted",
    "box_zero_area",
    "box_outside",
    "span_out_of_range",
    "duplicate_region",
    "duplicate_id",
]
FLAGS = [
    "picture_extension",
    "no_metadata",
    "size_differs",
    "duplicate_text",
    "conflicting_answers",
    "target_not_in_soft",
    "target_soft_score",
    "object_unlisted",
    "object_outside_region",
    "span_region_missing",
    "span_name_differs",
    "duplicate_box",
    "mask_differs",
    "mask_unusable",
    "region_without_entity",
    "unknown_category",
]


def audit_file(path: Path) -> tuple[tuple[int, int] | None, str]:
    """(size, "") of a sound file, (None, reason) of another."""
    if not path.exists():
        return None, "picture_missing"
    try:
        image = opened(path)
    except OSError:
        return None, "picture_damaged"
    right = {"JPEG": ".jpg", "PNG": ".png"}[str(image.format)] == path.suffix
    return image.size, "" if right else "picture_extension"


def audit_box(box: list[float], width: int, height: int) -> tuple[str, str] | None:
    x, y, w, h = box
    beyond = max(-x, -y, x + w - width, y + h - height)
    if w < 0 or h < 0:
        return "box_inverted", "reject"
    if w == 0 or h == 0:
        return "box_zero_area", "reject"
    if beyond > 2:
        return "box_outside", "reject"
    return ("box_overhang", "repair") if beyond > 0 else None


def audit_gqa(world: Path) -> Iterator[Finding]:
    for split in ("train", "val", "testdev"):
        records = questions(world, split)
        seen = load(world, f"gqa/{split}_sceneGraphs.json") if split != "testdev" else {}
        healthy = set()
        for picture in sorted({*seen, *(r["imageId"] for r in records.values() if "imageId" in r)}):
            size, reason = audit_file(world / f"gqa/images/{picture}.jpg")
            if reason:
                yield "gqa", "images", picture, reason, "reject"
            else:
                healthy.add(picture)
                yield from audit_graph(picture, seen.get(picture), size)
        yield from audit_questions(records, seen, healthy, split)


def audit_graph(picture: str, graph: dict[str, Any] | None, size: Any) -> Iterator[Finding]:
    if graph is None:
        return
    differs = (graph["width"], graph["height"]) != size
    if differs:
        yield "gqa", "images", picture, "size_differs", "flag"
    for number, thing in graph["objects"].items():
        bad = ("size_differs", "reject") if differs else audit_box([thing[k] for k in "xywh"], *size)
        if bad:
            yield "gqa", "regions", f"{picture}/{number}", *bad


def audit_questions(
    records: dict[str, Any], seen: dict[str, Any], healthy: set[str], split: str
) -> Iterator[Finding]:
    alike: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for qid, record in records.items():
        if "imageId" not in record or "question" not in record:
            yield "gqa", "texts", qid, "malformed", "reject"
        elif not record["question"].strip():
            yield "gqa", "texts", qid, "blank_text", "reject"
        elif record["imageId"] in healthy:
            alike[record["imageId"], record["question"]].append((qid, record["answer"]))
            for field, text in (("question", qid), ("fullAnswer", f"{qid}.full")):
                things = seen.get(record["imageId"], {}).get("objects")
                yield from audit_spans(text, record[field], record["annotations"][field], things)
    for same in alike.values():
        if len({answer for _, answer in same}) > 1:
            outcome = "reject" if split == "train" else "flag"
            yield from (("gqa", "texts", qid, "conflicting_answers", outcome) for qid, _ in same)
        else:
            yield from (("gqa", "texts", qid, "duplicate_text", "flag") for qid, _ in same[1:])


def audit_spans(text: str, content: str, spans: dict[str, str], things: Any) -> Iterator[Finding]:
    for key, number in spans.items():
        first, _, last = key.partition(":")
        if (int(last) if last else int(first) + 1) > len(content.split()):
            yield "gqa", "entities", f"{text}/{key}", "span_out_of_range", "reject"
        elif things is not None and number not in things:
            yield "gqa", "entities", f"{text}/{key}", "span_region_missing", "flag"


def audit_cirr(world: Path) -> Iterator[Finding]:
    for split in ("train", "val", "test1"):
        paths = load(world, f"cirr/image_splits/split.rc2.{split}.json")
        for picture, path in paths.items():
            _, reason = audit_file(world / "cirr/img_raw" / path)
            if reason:
                outcome = "flag" if reason == "picture_extension" else "reject"
                yield "cirr", "images", picture, reason, outcome
        asked = set()
        for row in load(world, f"cirr/captions/cap.rc2.{split}.json"):
            for reason, outcome in audit_pair(row, set(paths)):
                yield "cirr", "texts", str(row["pairid"]), reason, outcome
            if (row["reference"], row["caption"]) in asked:
                yield "cirr", "texts", str(row["pairid"]), "duplicate_text", "flag"
            asked.add((row["reference"], row["caption"]))


def audit_pair(row: dict[str, Any], known: set[str]) -> Iterator[tuple[str, str]]:
    members, target = row["img_set"]["members"], row.get("target_hard")
    named = {row["reference"], *members, *([target] if target else [])}
    if not row["caption"].strip():
        yield "blank_text", "reject"
    if not named <= known:
        yield "unknown_picture", "reject"
    elif len(members) != 6 or len(set(members)) != 6 or not named <= set(members):
        yield "wrong_members", "reject"
    if target and target not in row["target_soft"]:
        assert row["reference"] in row["target_soft"]
        yield "target_not_in_soft", "flag"
    elif target and row["target_soft"][target] != 1.0:
        yield "target_soft_score", "flag"


def audit_visual_genome(world: Path) -> Iterator[Finding]:
    rows = {row["image_id"]: row for row in load(world, "visual_genome/image_data.json")}
    things = {one["image_id"]: one["objects"] for one in load(world, "visual_genome/objects.json")}
    lost = set()
    for picture in load(world, "visual_genome/region_descriptions.json"):
        image = picture["id"]
        (path,) = list((world / "visual_genome").glob(f"VG_100K*/{image}.jpg")) or [Path("missing")]
        size, reason = audit_file(path)
        if image not in rows:
            yield "visual_genome", "images", str(image), "no_metadata", "flag"
        else:
            assert size in (None, (rows[image]["width"], rows[image]["height"]))
        if size is None:
            lost.add(image)
            yield "visual_genome", "images", str(image), reason, "reject"
            continue
        boxes = {f"o{one['object_id']}": [one[k] for k in "xywh"] for one in things[image]}
        boxes |= {
            f"r{one['region_id']}": [one[k] for k in ("x", "y", "width", "height")]
            for one in picture["regions"]
        }
        for number, box in boxes.items():
            if bad := audit_box(box, *size):
                yield "visual_genome", "regions", f"{image}/{number}", *bad
        yield from audit_phrases(picture["regions"])
    for picture in load(world, "visual_genome/region_graphs.json"):
        if picture["image_id"] not in lost:
            yield from audit_region_graphs(picture, things[picture["image_id"]])


def audit_phrases(regions: list[dict[str, Any]]) -> Iterator[Finding]:
    phrases = set()
    for row in regions:
        if "phrase" not in row:
            yield "visual_genome", "texts", str(row["region_id"]), "malformed", "reject"
        elif not row["phrase"].strip():
            yield "visual_genome", "texts", str(row["region_id"]), "blank_text", "reject"
            region = f"{row['image_id']}/r{row['region_id']}"
            yield "visual_genome", "regions", region, "region_without_entity", "flag"
        else:
            assert row["phrase"] not in phrases
            phrases.add(row["phrase"])


def audit_region_graphs(picture: dict[str, Any], things: list[dict[str, Any]]) -> Iterator[Finding]:
    known = {number for thing in things for number in (thing["object_id"], *thing["merged_object_ids"])}
    for graph in picture["regions"]:
        for thing in graph["objects"]:
            name = f"{picture['image_id']}/o{thing['object_id']}"
            if thing["object_id"] not in known:
                yield "visual_genome", "regions", name, "object_unlisted", "flag"
            across = thing["x"] <= graph["x"] + graph["width"] and graph["x"] <= thing["x"] + thing["w"]
            if not (
                across
                and thing["y"] <= graph["y"] + graph["height"]
                and graph["y"] <= thing["y"] + thing["h"]
            ):
                yield "visual_genome", "regions", name, "object_outside_region", "flag"
        for span in graph["synsets"]:
            start, end = span["entity_idx_start"], span["entity_idx_end"]
            name = f"{graph['region_id']}/{start}:{end}"
            if end > len(graph["phrase"]):
                yield "visual_genome", "entities", name, "span_out_of_range", "reject"
            elif graph["phrase"][start:end] != span["entity_name"]:
                yield "visual_genome", "entities", name, "span_name_differs", "flag"


def audit_coco(world: Path) -> Iterator[Finding]:
    for split in ("train", "val"):
        content = load(world, f"coco/annotations/instances_{split}2017.json")
        listed, lost = {image["id"]: image for image in content["images"]}, set()
        for number, image in listed.items():
            _, reason = audit_file(world / f"coco/{split}2017/{image['file_name']}")
            if reason:
                lost.add(number)
                yield "coco", "images", str(number), reason, "reject"
        kinds = {kind["id"] for kind in content["categories"]}
        seen: set[Any] = set()
        for row in content["annotations"]:
            for reason, outcome in audit_instance(row, listed, kinds, lost, seen):
                yield "coco", "regions", f"{row['image_id']}/{row['id']}", reason, outcome
        captions = load(world, f"coco/annotations/captions_{split}2017.json")["annotations"]
        yield from audit_captions(captions, set(listed))


def audit_instance(
    row: dict[str, Any], listed: dict[int, Any], kinds: set[int], lost: set[int], seen: set[Any]
) -> Iterator[tuple[str, str]]:
    """seen: ids and boxes of earlier rows."""
    image = listed.get(row["image_id"])
    again, box = row["id"] in seen, (row["image_id"], row["category_id"], *row.get("bbox", ()))
    seen.add(row["id"])
    if image is None or "bbox" not in row:
        yield "unknown_picture" if image is None else "malformed", "reject"
    elif image["id"] in lost:
        return
    elif again:
        yield "duplicate_region", "reject"
    elif bad := audit_box(row["bbox"], image["width"], image["height"]):
        yield bad
    else:
        yield from audit_mask(row, image)
        if row["category_id"] not in kinds:
            yield from (("unknown_category", "flag"), ("region_without_entity", "flag"))
        if box in seen:
            yield "duplicate_box", "flag"
        seen.add(box)


def audit_mask(row: dict[str, Any], image: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if not row["iscrowd"] and min(map(len, row["segmentation"])) < 6:
        yield "mask_unusable", "flag"
        return
    found = rle.frPyObjects(row["segmentation"], image["height"], image["width"])
    inner = rle.toBbox(found if row["iscrowd"] else rle.merge(found))
    corners = [np.array([x, y, x + w, y + h]) for x, y, w, h in (inner, row["bbox"])]
    if np.abs(corners[0] - corners[1]).max() > 2:
        yield "mask_differs", "flag"


def audit_captions(rows: list[dict[str, Any]], listed: set[int]) -> Iterator[Finding]:
    seen = set()
    for row in rows:
        name = str(row["id"])
        if row["image_id"] not in listed:
            yield "coco", "texts", name, "unknown_picture", "reject"
        elif "caption" not in row:
            yield "coco", "texts", name, "malformed", "reject"
        elif name in seen:
            yield "coco", "texts", name, "duplicate_id", "reject"
        elif not row["caption"].strip():
            yield "coco", "texts", name, "blank_text", "reject"
        seen.add(name)


def audit_copies(world: Path) -> Iterator[Finding]:
    """Training pictures whose content, or whose look, an evaluation split of the other dataset has."""
    gqa_train, gqa_val = (paths_of(world, split) for split in ("train", "val"))
    cirr_train, cirr_val = (cirr_paths(world, split) for split in ("train", "val"))
    for dataset, train, evaluation in (("gqa", gqa_train, cirr_val), ("cirr", cirr_train, gqa_val)):
        there = {look(path) for path in evaluation.values()} - {None}
        for picture, path in train.items():
            if look(path) in there:
                yield dataset, "images", picture, "in_evaluation_split", "reject"


def paths_of(world: Path, split: str) -> dict[str, Path]:
    return {
        picture: world / f"gqa/images/{picture}.jpg"
        for picture in load(world, f"gqa/{split}_sceneGraphs.json")
    }


def cirr_paths(world: Path, split: str) -> dict[str, Path]:
    paths = load(world, f"cirr/image_splits/split.rc2.{split}.json")
    return {picture: world / "cirr/img_raw" / path for picture, path in paths.items()}


def look(path: Path) -> int | None:
    sound = audit_file(path)[0] is not None
    return perceptual_hash(np.asarray(opened(path).convert("RGB"))) if sound else None


# ---- the stage -----------------------------------------------------------------------------------------


def test_the_stage_writes_the_world_named_in_params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = yaml.safe_load(Path("params.yaml").read_text("utf8"))
    sizes = {"gqa": {"train": 48, "val": 12, "testdev": 1}, "cirr": {"train": 24, "val": 18, "test1": 6}}
    content["demo"] = {"tiny": {**sizes, "questions": 3, "visual_genome": 30, "coco": 12}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content), "utf8")
    monkeypatch.chdir(tmp_path)
    stage.run(argparse.Namespace(world="tiny", params=Path("params.yaml")))
    assert {path.name for path in Path("raw/tiny").iterdir()} == {
        "gqa",
        "cirr",
        "visual_genome",
        "coco",
        "defects.json",
    }
    assert [path.name for path in Path("raw").iterdir()] == ["tiny"]
    with pytest.raises(ParamsError, match="did you mean 'tiny'"):
        stage.run(argparse.Namespace(world="tinny", params=Path("params.yaml")))
