"""Generated Visual Genome in the official files: regions, region graphs, objects v1.4, two folders."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from contract.seeds import rng
from data_pipeline.demo.relations import related
from data_pipeline.demo.scene import Scene, Thing
from data_pipeline.demo.wording import Mention, Text, compose

Json = dict[str, Any]
FIRST_REGION = 1_382
MERGED = 5_000_000  # an object's other id is its id plus this
REGION_ROOM = 20  # region ids per picture
ROUGH = {
    "outer space": 0.07,
    "double space": 0.02,
    "line break": 0.01,
}  # shares of phrases, legal all of them


@dataclass
class VisualGenome:
    """By image id: the scene, and the rows of each file, of which any can leave a picture out."""

    scenes: dict[int, Scene] = field(default_factory=dict)
    metadata: dict[int, Json] = field(default_factory=dict)
    regions: dict[int, list[Json]] = field(default_factory=dict)
    graphs: dict[int, list[Json]] = field(default_factory=dict)
    objects: dict[int, list[Json]] = field(default_factory=dict)

    def files(self) -> dict[str, Any]:
        """The annotation files: name → content."""
        urls = {image: _url(image) for image in self.objects}
        return {
            "image_data.json": list(self.metadata.values()),
            "region_descriptions.json": [
                {"regions": rows, "id": image} for image, rows in self.regions.items()
            ],
            "region_graphs.json": [
                {"regions": rows, "image_id": image} for image, rows in self.graphs.items()
            ],
            "objects.json": [
                {"image_id": image, "image_url": urls[image], "objects": rows}
                for image, rows in self.objects.items()
            ],
        }


def generate(scenes: dict[int, Scene], coco_ids: dict[int, int], seed: int) -> VisualGenome:
    """A sound Visual Genome of these scenes. coco_ids: image id → COCO id, of COCO's photos."""
    world = VisualGenome(scenes)
    for index, (image, scene) in enumerate(scenes.items()):
        random = rng(seed, "visual-genome", image)
        merged = {thing.id for thing in scene.things if random.random() < 0.1}
        world.metadata[image] = _metadata(random, image, scene, coco_ids.get(image))
        world.objects[image] = [_object(thing, thing.id in merged) for thing in scene.things]
        graphs = _region_graphs(random, image, scene, FIRST_REGION + REGION_ROOM * index, merged)
        world.regions[image] = [region_row(graph) for graph in graphs]
        world.graphs[image] = [graph for graph in graphs if random.random() < 0.75]
    return world


def image_file(image: int) -> str:
    """The path of a picture in the world's folder."""
    return f"visual_genome/{_url(image).rpartition('rak248/')[2]}"


def region_row(graph: Json) -> Json:
    """What region_descriptions.json says of a region."""
    return {key: graph[key] for key in ("region_id", "width", "height", "image_id", "phrase", "y", "x")}


def _url(image: int) -> str:
    return f"https://cs.stanford.edu/people/rak248/VG_100K{'_2' if image % 3 == 0 else ''}/{image}.jpg"


def _metadata(random: np.random.Generator, image: int, scene: Scene, coco_id: int | None) -> Json:
    flickr = int(random.integers(10**9)) if random.random() < 0.5 else None
    size = {"width": scene.width, "url": _url(image), "height": scene.height}
    return size | {"image_id": image, "coco_id": coco_id, "flickr_id": flickr}


def _synset(name: str) -> str:
    return f"{name}.n.01"


def _object(thing: Thing, merged: bool) -> Json:
    x, y, w, h = thing.box
    return {
        "synsets": [_synset(thing.name)],
        "h": h,
        "object_id": thing.id,
        "merged_object_ids": [thing.id + MERGED] if merged else [],
        "names": [thing.name],
        "w": w,
        "y": y,
        "x": x,
    }


def _region_graphs(
    random: np.random.Generator, image: int, scene: Scene, first_id: int, merged: set[int]
) -> list[Json]:
    """Regions with different phrases: one or two a thing, and up to four relations."""
    drafts = [_thing_phrase(random, scene, thing) for thing in scene.things * 2]
    found = related(scene)
    for number in random.permutation(len(found))[:4].tolist():
        drafts.append(_relation_phrase(random, scene, *found[number]))
    different = {text.text: (text, things, relation) for text, things, relation in drafts}
    return [
        _graph(random, image, first_id + number, scene, draft, merged)
        for number, draft in enumerate(different.values())
    ]


Draft = tuple[Text, tuple[Thing, ...], str | None]


def _thing_phrase(random: np.random.Generator, scene: Scene, thing: Thing) -> Draft:
    shown = thing.material if scene.mode == "L" else thing.color
    name = Mention(thing.name, thing.id)
    forms = (
        (f"a {shown} ", name),
        (f"the {thing.size} ", name, f" is {shown}"),
        (f"{thing.size} {shown} ", name),
        (f"{shown} ", name, f" made of {thing.material}"),
        ("A ", name, f" made of {thing.material} in the picture"),
    )
    return compose(*_roughen(random, forms[int(random.integers(len(forms)))])), (thing,), None


def _relation_phrase(
    random: np.random.Generator, scene: Scene, subject: Thing, relation: str, anchor: Thing
) -> Draft:
    first, second = (scene.attributes(thing)[0] for thing in (subject, anchor))
    verb = " is " if random.random() < 0.5 else " "
    parts = (
        f"the {first} ",
        Mention(subject.name, subject.id),
        f"{verb}{relation} the {second} ",
        Mention(anchor.name, anchor.id),
    )
    return compose(*_roughen(random, parts)), (subject, anchor), relation


def _roughen(random: np.random.Generator, parts: tuple[str | Mention, ...]) -> tuple[str | Mention, ...]:
    """Now and then the white space that real phrases have: around, doubled, or a line break."""
    first, *rest = parts
    assert isinstance(first, str)
    outer, double, line = (random.random() < share for share in ROUGH.values())
    if double:
        first = first.replace(" ", "  ", 1)
    if line:
        first = first[:-1] + "\n"
    if outer and random.random() < 0.5:
        first = " " + first
    elif outer:
        rest = [*rest, " "]
    return (first, *rest)


def _graph(
    random: np.random.Generator, image: int, region: int, scene: Scene, draft: Draft, merged: set[int]
) -> Json:
    text, things, relation = draft
    x, y, width, height = _around(random, scene, things)
    known_as = {thing.id: thing.id + MERGED if thing.id in merged else thing.id for thing in things}
    return {
        "relationships": _relationships(region, relation, list(known_as.values())),
        "region_id": region,
        "width": width,
        "synsets": [
            {
                "entity_idx_start": start,
                "entity_idx_end": end,
                "entity_name": mention.words,
                "synset_name": _synset(mention.words),
            }
            for start, end, mention in text.mentions
        ],
        "height": height,
        "image_id": image,
        "objects": [region_object(thing, known_as[thing.id]) for thing in things],
        "phrase": text.text,
        "y": y,
        "x": x,
    }


def region_object(thing: Thing, object_id: int) -> Json:
    """An object as a region graph lists it."""
    x, y, w, h = thing.box
    return {
        "name": thing.name,
        "h": h,
        "object_id": object_id,
        "synsets": [_synset(thing.name)],
        "w": w,
        "y": y,
        "x": x,
    }


def _relationships(region: int, relation: str | None, ids: list[int]) -> list[Json]:
    if relation is None:
        return []
    ends = {"object_id": ids[1], "subject_id": ids[0]}
    return [{"synsets": [], "predicate": relation.upper(), "relationship_id": 15_000 + region} | ends]


def _around(
    random: np.random.Generator, scene: Scene, things: tuple[Thing, ...]
) -> tuple[int, int, int, int]:
    """xywh around the things, up to four pixels wider on each side, inside the picture."""
    room = random.integers(0, 5, 4).tolist()
    left = max(0, min(thing.x for thing in things) - room[0])
    top = max(0, min(thing.y for thing in things) - room[1])
    right = min(scene.width, max(thing.x + thing.side for thing in things) + room[2])
    bottom = min(scene.height, max(thing.y + thing.side for thing in things) + room[3])
    return left, top, right - left, bottom - top
