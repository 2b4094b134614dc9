"""Which pictures the four datasets have in common, and which are copies across splits."""

import io
from dataclasses import dataclass
from itertools import islice

import numpy as np
from PIL import Image

from contract.seeds import rng
from data_pipeline.demo.coco import Coco, generate
from data_pipeline.demo.defects import Victims
from data_pipeline.demo.gqa import FIRST_PICTURE, Gqa
from data_pipeline.demo.render import COPY_QUALITY, draw, encode
from data_pipeline.demo.scene import Scene, sample_scene
from data_pipeline.pictures.picture_files import perceptual_hash

FIRST_OBJECT = 3_000_000  # of the pictures that are Visual Genome's alone; above GQA's


@dataclass(frozen=True)
class Photos:
    """Visual Genome's pictures. shared: those of GQA; own: those of nobody else; coco_ids: those of COCO."""

    scenes: dict[int, Scene]
    shared: set[int]
    own: list[int]
    coco_ids: dict[int, int]


def steady(scenes: dict[str, Scene], count: int, seed: int) -> list[str]:
    """The first pictures whose perceptual hash survives a new encoding unchanged."""
    survivors = (picture for picture, scene in scenes.items() if _hash_survives(draw(scene, seed)))
    return list(islice(survivors, count))


def _hash_survives(image: Image.Image) -> bool:
    with Image.open(io.BytesIO(encode(image, "JPEG", COPY_QUALITY))) as copy:
        return perceptual_hash(np.asarray(copy)) == perceptual_hash(np.asarray(image))


def copies(train: dict[str, Scene], evaluation: dict[str, Scene], count: int, seed: int) -> dict[str, str]:
    """Training picture → evaluation picture of another dataset that takes its place; `count` of them."""
    victims = Victims(train, rng(seed, "copies")).take(count)
    return dict(zip(victims, Victims(evaluation, rng(seed, "copied")).take(count), strict=True))


def visual_genome_and_coco(
    gqa: Gqa, without: set[str], visual_genome: int, coco: int, seed: int
) -> tuple[Photos, Coco]:
    """Choose the pictures of Visual Genome and COCO. without: GQA pictures that nobody else shows."""
    shared = _of_gqa(gqa, without, visual_genome, seed)
    own = _own(visual_genome - len(shared), seed)
    scenes = shared | own
    # A photo that GQA has too is in COCO's split of the same name, so that none is an evaluation copy.
    train = [image for image in shared if image < FIRST_PICTURE["val"]][: coco // 6]
    val = [image for image in shared if image >= FIRST_PICTURE["val"]][: max(1, coco // 24)]
    photos = {"train": train + list(own)[: coco // 12], "val": val}
    coco_world, coco_ids = _coco(coco, photos, scenes, seed)
    alone = [image for image in own if image not in coco_ids]
    return Photos(scenes, set(shared), alone, coco_ids), coco_world


def _of_gqa(gqa: Gqa, without: set[str], pictures: int, seed: int) -> dict[int, Scene]:
    """Two thirds of Visual Genome, a tenth of them from GQA's val split."""
    val = max(1, round(pictures / 15))
    shared = {}
    for split, count in (("train", round(pictures * 2 / 3) - val), ("val", val)):
        healthy = [picture for picture in gqa.scenes[split] if picture not in without]
        for picture in sorted(Victims(healthy, rng(seed, "shared", split)).take(count)):
            shared[int(picture)] = gqa.scenes[split][picture]
    return shared


def _own(pictures: int, seed: int) -> dict[int, Scene]:
    """Pictures that GQA does not have, with Visual Genome's low ids."""
    ids = [61 + 2 * index for index in range(pictures)]
    return {image: sample_scene(seed, f"visual_genome-{image}", FIRST_OBJECT + 8 * image) for image in ids}


def _coco(
    pictures: int, photos: dict[str, list[int]], known: dict[int, Scene], seed: int
) -> tuple[Coco, dict[int, int]]:
    """COCO, a quarter of it val, beginning with Visual Genome's photos; and the COCO ids of these."""
    val = pictures // 4
    numbers = iter(range(139, 139 + 7 * pictures, 7))
    scenes: dict[str, dict[int, Scene]] = {}
    coco_ids: dict[int, int] = {}
    for split, count in (("train", pictures - val), ("val", val)):
        ids = [next(numbers) for _ in range(count)]
        shown = dict(zip(ids, photos[split], strict=False))
        coco_ids |= {image: number for number, image in shown.items()}
        own = {number: sample_scene(seed, f"coco-{number}", 0) for number in ids if number not in shown}
        scenes[split] = {number: known[image] for number, image in shown.items()} | own
    return generate(scenes, seed), coco_ids
