"""Generated CIRR in the official files: families of edited scenes in overlapping sets of six."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from contract.params import DemoCirr
from contract.seeds import rng, seed64
from data_pipeline.demo.edits import caption, change
from data_pipeline.demo.scene import Scene, sample_scene

Json = dict[str, Any]
SET = 6
STEP = 3  # neighbouring sets share three pictures
FAMILY = 12
PAIRS = 8  # texts per set, at most
PREFIX = {"train": "train", "val": "dev", "test1": "test1"}
FIRST_OBJECT = 50_000_000
EXTRA_SCORES = (-1.0, 0.5, 0.2)


@dataclass
class Cirr:
    """Per split: scenes by picture id, caption records, and each picture's path as the split file has it."""

    scenes: dict[str, dict[str, Scene]] = field(default_factory=dict)
    captions: dict[str, list[Json]] = field(default_factory=dict)
    paths: dict[str, dict[str, str]] = field(default_factory=dict)

    def files(self) -> dict[str, Any]:
        """The annotation files: name → content."""
        captions = {f"captions/cap.rc2.{split}.json": rows for split, rows in self.captions.items()}
        return captions | {
            f"image_splits/split.rc2.{split}.json": paths for split, paths in self.paths.items()
        }

    def image_file(self, split: str, picture: str) -> str:
        """The path of a picture in the world's folder."""
        return f"cirr/img_raw/{self.paths[split][picture].removeprefix('./')}"


def generate(settings: DemoCirr, seed: int) -> Cirr:
    """A sound CIRR."""
    world = Cirr()
    first_set = 0
    for number, split in enumerate(("train", "val", "test1")):
        families = _families(split, getattr(settings, split), seed)
        sets = [window for family in families for window in _windows(list(family))]
        world.scenes[split] = {picture: scene for family in families for picture, scene in family.items()}
        world.paths[split] = {picture: _path(split, picture) for picture in world.scenes[split]}
        random = rng(seed, "cirr-pairs", split)
        world.captions[split] = _captions(random, world.scenes[split], sets, first_set, 100_000 * number + 1)
        first_set += len(sets)
        if split == "test1":
            _hide_targets(world.captions[split])
    return world


def _families(split: str, pictures: int, seed: int) -> list[dict[str, Scene]]:
    """Families of about a dozen pictures; a remainder too small for a set joins the last one."""
    count = max(1, pictures // FAMILY)
    sizes = [FAMILY] * (count - 1) + [pictures - FAMILY * (count - 1)]
    return [_family(split, number, size, seed) for number, size in enumerate(sizes)]


def _family(split: str, number: int, size: int, seed: int) -> dict[str, Scene]:
    """Scenes that each differ by one edit from one of the three before; no two look the same."""
    random = rng(seed, "cirr-family", split, number)
    first_id = FIRST_OBJECT + 1000 * (list(PREFIX).index(split) * 1000 + number)
    ids = [f"{PREFIX[split]}-{number}-{index // 2}-img{index % 2}" for index in range(size)]
    scenes = [sample_scene(seed, f"cirr-{ids[0]}", first_id)]
    while len(scenes) < size:
        parent = scenes[max(0, len(scenes) - 1 - int(random.integers(3)))]
        scene = change(random, parent, f"cirr-{ids[len(scenes)]}", first_id + 10 + len(scenes))
        if all(set(scene.things) != set(other.things) for other in scenes):
            scenes.append(scene)
    return dict(zip(ids, scenes, strict=True))


def _windows(ids: list[str]) -> list[list[str]]:
    """Sets of six neighbours, each sharing three or more with the next; together they hold everyone."""
    starts = [*range(0, len(ids) - SET, STEP), len(ids) - SET]
    return [ids[start : start + SET] for start in starts]


def _path(split: str, picture: str) -> str:
    folder = f"train/{seed64('cirr-folder', picture) % 100}" if split == "train" else PREFIX[split]
    return f"./{folder}/{picture}.png"


def _captions(
    random: np.random.Generator,
    scenes: dict[str, Scene],
    sets: list[list[str]],
    first_set: int,
    first_pair: int,
) -> list[Json]:
    """Up to eight texts a set. No reference has the same text or the same target twice."""
    rows: list[Json] = []
    taken: set[tuple[str, str]] = set()
    for number, members in enumerate(sets, first_set):
        kept = 0
        for reference, target in random.permutation(
            [(a, b) for a in members for b in members if a != b]
        ).tolist():
            words = caption(random, scenes[reference], scenes[target])
            if words is None or kept == PAIRS or taken & {(reference, words), (reference, target)}:
                continue
            taken |= {(reference, words), (reference, target)}
            order = random.permutation(members).tolist()
            rows.append(_row(random, first_pair + len(rows), reference, target, words, number, order))
            kept += 1
    return rows


def _row(
    random: np.random.Generator,
    pairid: int,
    reference: str,
    target: str,
    words: str,
    number: int,
    members: list[str],
) -> Json:
    soft = {target: 1.0}
    if random.random() < 0.16:
        others = [member for member in members if member not in (reference, target)]
        soft[others[0]] = EXTRA_SCORES[int(random.integers(len(EXTRA_SCORES)))]
    ranks = {"reference_rank": members.index(reference), "target_rank": members.index(target)}
    return {
        "pairid": pairid,
        "reference": reference,
        "target_hard": target,
        "target_soft": soft,
        "caption": words,
        "img_set": {"id": number, "members": members} | ranks,
    }


def _hide_targets(rows: list[Json]) -> None:
    for row in rows:
        del row["target_hard"], row["target_soft"], row["img_set"]["target_rank"]
