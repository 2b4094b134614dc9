"""The generated world: four datasets in their official files, with pictures in common and defects planted."""

from pathlib import Path
from typing import Any

import msgspec

from contract.errors import ParamsError
from contract.params import Demo, DemoCirr, DemoGqa
from data_pipeline.demo import (
    cirr,
    cirr_defects,
    coco_defects,
    gqa,
    gqa_defects,
    overlap,
    pictures,
    visual_genome,
    visual_genome_defects,
)
from data_pipeline.demo.defects import Ledger, Spoiled
from data_pipeline.demo.pictures import Progress, write_bytes

FULL = Demo()  # the sizes that the numbers of defects are meant for
LEAST = Demo(
    gqa=DemoGqa(train=48, val=12, testdev=1),
    questions=3,
    cirr=DemoCirr(train=24, val=18, test1=6),
    visual_genome=30,
    coco=12,
)
GENERATED = {"generator": "data_pipeline.demo", "about": "no photographs, no real annotations"}


def build(folder: Path, settings: Demo, seed: int, progress: Progress, workers: int = 2) -> None:
    """Write the world into `folder`: gqa/, cirr/, visual_genome/, coco/, and defects.json.

    The bytes depend on settings and seed alone, not on `workers` (processes that draw).
    Raises ParamsError where the world would be too small to hold each defect once.
    """
    check_size(settings)
    ledger, spoiled = Ledger(_share(settings)), Spoiled()

    cirr_world = cirr.generate(settings.cirr, seed)
    lent = overlap.steady(cirr_world.scenes["val"], ledger.count(2), seed)
    borrowed = [cirr_world.scenes["val"][picture] for picture in lent]
    gqa_world = gqa.generate(settings.gqa, settings.questions, seed, borrowed)
    cirr_to_gqa = dict(zip(list(gqa_world.scenes["train"])[-len(lent) :], lent, strict=True))
    gqa_to_cirr = overlap.copies(cirr_world.scenes["train"], gqa_world.scenes["val"], ledger.count(3), seed)

    untouched = {*cirr_to_gqa, *gqa_to_cirr.values()}
    vg_photos, coco_world = overlap.visual_genome_and_coco(
        gqa_world, untouched, settings.visual_genome, settings.coco, seed
    )
    vg_world = visual_genome.generate(vg_photos.scenes, vg_photos.coco_ids, seed)

    known = {*untouched, *map(str, vg_photos.shared)}
    alone = {
        split: [picture for picture in gqa_world.scenes[split] if picture not in known]
        for split in gqa_world.graphs
    }
    encoded = {copy: cirr_world.image_file("val", one) for copy, one in cirr_to_gqa.items()}
    copied = {copy: gqa.image_file(one) for copy, one in gqa_to_cirr.items()}
    gqa_defects.plant(gqa_world, alone, encoded, seed, ledger, spoiled)
    jpeg_inside = cirr_defects.plant(cirr_world, copied, set(lent), seed, ledger, spoiled)
    visual_genome_defects.plant(vg_world, vg_photos.own, seed, ledger, spoiled)
    elsewhere = set(vg_photos.coco_ids.values())
    coco_own = [image for image in coco_world.scenes["train"] if image not in elsewhere]
    coco_defects.plant(coco_world, coco_own, seed, ledger, spoiled)

    _write_annotations(folder / "gqa", gqa_world.files())
    _write_annotations(folder / "cirr", cirr_world.files())
    _write_annotations(folder / "visual_genome", vg_world.files())
    _write_annotations(folder / "coco", coco_world.files())
    _write_json(folder / "defects.json", ledger.content())
    photos = pictures.photos(gqa_world, vg_photos.scenes, coco_world, spoiled)
    pngs = pictures.pngs(cirr_world, jpeg_inside, set(lent), spoiled, seed)
    pictures.draw_all(folder, [*photos, *pngs], seed, progress, workers)
    pictures.spoil(folder, spoiled)


def check_size(settings: Demo) -> None:
    """Refuse a world that cannot hold each defect once."""
    for name, found, least in _sizes(settings, LEAST):
        if found < least:
            problem = f"demo: {name} is too small to hold each defect once"
            raise ParamsError("params.yaml", problem, found=found, expected=f"at least {least}")


def _share(settings: Demo) -> float:
    """How much of a full-size world this is: the least over its parts."""
    return min(found / full for name, found, full in _sizes(settings, FULL) if name != "questions")


def _sizes(settings: Demo, other: Demo) -> list[tuple[str, int, int]]:
    """(name, size here, size there) of each part."""
    return [(name, size, _flat(other)[name]) for name, size in _flat(settings).items()]


def _flat(settings: Demo) -> dict[str, int]:
    plain: dict[str, Any] = msgspec.to_builtins(settings)
    parts = {f"{name}.{split}": size for name in ("gqa", "cirr") for split, size in plain.pop(name).items()}
    return parts | plain


def _write_annotations(folder: Path, files: dict[str, Any]) -> None:
    for name, content in (files | {"GENERATED.json": GENERATED}).items():
        _write_json(folder / name, content)


def _write_json(path: Path, content: Any) -> None:
    write_bytes(path, msgspec.json.encode(content) + b"\n")
