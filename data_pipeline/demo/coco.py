"""Generated COCO 2017 in the official files: polygons, a few RLE crowds, five captions a picture."""

from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np

from contract.seeds import rng
from data_pipeline.demo.relations import related
from data_pipeline.demo.render import OUTLINES, silhouette
from data_pipeline.demo.scene import NAMES, Scene, Thing

Json = dict[str, Any]
CATEGORIES = dict(zip(NAMES, (1, 2, 3, 5, 8, 13), strict=True))  # with gaps, as COCO's
CAPTIONS = 5
CROWD = 0.3  # share of the pictures with two things of a name in which these are one crowd
INFO = {
    "description": "Generated pictures in the format of COCO 2017",
    "url": "",
    "version": "1.0",
    "year": 2017,
}
LICENSES = [{"url": "http://creativecommons.org/licenses/by/2.0/", "id": 4, "name": "Attribution License"}]


@dataclass
class Coco:
    """Per split: scenes by picture id, and the rows of the files."""

    scenes: dict[str, dict[int, Scene]]
    images: dict[str, list[Json]] = field(default_factory=dict)
    instances: dict[str, list[Json]] = field(default_factory=dict)
    captions: dict[str, list[Json]] = field(default_factory=dict)

    def files(self) -> dict[str, Any]:
        """The annotation files: name → content."""
        kinds = [
            {"supercategory": "shape", "id": number, "name": name} for name, number in CATEGORIES.items()
        ]
        found = {}
        for split, images in self.images.items():
            base = {"info": INFO, "licenses": LICENSES, "images": images}
            instances = {"annotations": self.instances[split], "categories": kinds}
            found[f"annotations/instances_{split}2017.json"] = base | instances
            found[f"annotations/captions_{split}2017.json"] = base | {"annotations": self.captions[split]}
        return found


def generate(scenes: dict[str, dict[int, Scene]], seed: int) -> Coco:
    """A sound COCO of these scenes."""
    world = Coco(scenes)
    for split, shown in scenes.items():
        world.images[split] = [_image(split, *item) for item in shown.items()]
        world.instances[split] = [row for item in shown.items() for row in instance_rows(*item, seed)]
        world.captions[split] = [row for item in shown.items() for row in caption_rows(*item, seed)]
    return world


def image_file(split: str, image: int) -> str:
    """The path of a picture in the world's folder."""
    return f"coco/{split}2017/{image:012d}.jpg"


def _image(split: str, image: int, scene: Scene) -> Json:
    name = f"{image:012d}.jpg"
    return {
        "license": 4,
        "file_name": name,
        "coco_url": f"http://images.cocodataset.org/{split}2017/{name}",
        "height": scene.height,
        "width": scene.width,
        "date_captured": "2013-11-14 17:02:52",
        "flickr_url": "",
        "id": image,
    }


def instance_rows(image: int, scene: Scene, seed: int) -> list[Json]:
    """One polygon a thing; now and then two things of one name as a crowd."""
    crowd = rng(seed, "crowd", image).random() < CROWD
    rows: list[Json] = []
    for name, group in groupby(
        sorted(scene.things, key=lambda thing: thing.name), key=lambda thing: thing.name
    ):
        things = list(group)
        alike = [things] if crowd and len(things) > 1 else [[thing] for thing in things]
        for some in alike:
            shape = _crowd(scene, some) if len(some) > 1 else _polygon(some[0])
            about = {"image_id": image, "category_id": CATEGORIES[name], "id": 100 * image + len(rows)}
            rows.append(shape | about)
    return rows


def _polygon(thing: Thing) -> Json:
    points = np.round(OUTLINES[thing.name] * thing.side + (thing.x, thing.y), 2)
    x, y = points.T
    area = abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2
    bbox = [float(value) for value in thing.box]
    return {"segmentation": [points.ravel().tolist()], "area": round(area, 4), "iscrowd": 0, "bbox": bbox}


def _crowd(scene: Scene, things: list[Thing]) -> Json:
    """The union of the silhouettes as run lengths down the columns, beginning with zeros."""
    mask = np.zeros((scene.height, scene.width), bool)
    for thing in things:
        inside = np.asarray(silhouette(thing.name, thing.side)) > 127
        mask[thing.y : thing.y + thing.side, thing.x : thing.x + thing.side] |= inside
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = float(columns[0]), float(rows[0])
    bbox = [x, y, float(columns[-1]) + 1 - x, float(rows[-1]) + 1 - y]
    runs = {"counts": run_lengths(mask), "size": [scene.height, scene.width]}
    return {"segmentation": runs, "area": int(mask.sum()), "iscrowd": 1, "bbox": bbox}


def run_lengths(mask: np.ndarray) -> list[int]:
    """Lengths of the runs of False, True, False, … down the columns of a mask [height, width]."""
    flat = np.concatenate([[False], mask.T.ravel()])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    lengths: list[int] = np.diff(np.concatenate([[0], edges, [flat.size - 1]])).tolist()
    return lengths


def caption_rows(image: int, scene: Scene, seed: int) -> list[Json]:
    """Five different sentences about the picture."""
    random = rng(seed, "captions", image)
    sentences = list(dict.fromkeys(_sentences(random, scene)))[:CAPTIONS]
    return [
        {"image_id": image, "id": 10 * image + number, "caption": sentence}
        for number, sentence in enumerate(sentences)
    ]


def _sentences(random: np.random.Generator, scene: Scene) -> list[str]:
    things = [scene.things[number] for number in random.permutation(len(scene.things))]
    looks = {thing.id: f"{scene.attributes(thing)[0]} {thing.name}" for thing in things}
    first, second, third = (looks[thing.id] for thing in things[:3])
    sentences = [
        f"A {first} and a {second} are in the picture.",
        f"There are {len(things)} things, one of them a {things[2].size} {things[2].name}.",
        f"a {first}, a {second} and a {third}",
        f"A picture of a {third} made of {things[2].material} ",
    ]
    found = related(scene)
    subject, relation, anchor = (
        found[int(random.integers(len(found)))] if found else (things[0], "near", things[1])
    )
    sentences.append(f"The {looks[subject.id]} is {relation} the {looks[anchor.id]}.")
    return [*sentences, f"A {things[1].size} {second} beside other things."]
