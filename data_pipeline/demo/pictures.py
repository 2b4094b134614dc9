"""The picture files of the world: each scene drawn once, then those files spoiled that the defects name."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from contract.seeds import uniform
from data_pipeline.demo import coco, gqa, visual_genome
from data_pipeline.demo.cirr import Cirr
from data_pipeline.demo.coco import Coco
from data_pipeline.demo.defects import Spoiled
from data_pipeline.demo.gqa import Gqa
from data_pipeline.demo.render import COPY_QUALITY, Picture, encode, write_picture
from data_pipeline.demo.scene import Scene
from data_pipeline.engine import run_tasks

TRANSPARENT = 0.06  # share of the PNG pictures of CIRR that have an (opaque) alpha channel
TRUNCATED_AT = 0.55  # of the file's bytes
Progress = Callable[[int, int], object]  # told: pictures drawn, pictures in all
PICTURES_A_TASK = 64


def photos(gqa_world: Gqa, vg_scenes: dict[int, Scene], coco_world: Coco, spoiled: Spoiled) -> list[Picture]:
    """The JPEG files: a scene is drawn once, under all its names."""
    names: dict[Scene, list[str]] = defaultdict(list)
    for scenes in gqa_world.scenes.values():
        for picture, scene in scenes.items():
            names[scene].append(gqa.image_file(picture))
    for image, scene in vg_scenes.items():
        names[scene].append(visual_genome.image_file(image))
    for split, shown in coco_world.scenes.items():
        for image, scene in shown.items():
            names[scene].append(coco.image_file(split, image))
    return _to_draw(((scene, paths, "JPEG") for scene, paths in names.items()), spoiled)


def pngs(world: Cirr, jpeg_inside: set[str], plain: set[str], spoiled: Spoiled, seed: int) -> list[Picture]:
    """CIRR's files: PNG, but for those that are JPEG inside; some with an alpha channel, none of `plain`."""
    rows = []
    for split, scenes in world.scenes.items():
        for picture, scene in scenes.items():
            alpha = picture not in plain and uniform(seed, "alpha", picture) < TRANSPARENT
            shown = replace(scene, mode="RGBA") if alpha else scene
            format = "JPEG" if picture in jpeg_inside else "PNG"
            rows.append((shown, [world.image_file(split, picture)], format))
    return _to_draw(rows, spoiled)


def _to_draw(rows: Iterable[tuple[Scene, list[str], str]], spoiled: Spoiled) -> list[Picture]:
    """Without the files that are missing, or that come from others."""
    skipped = spoiled.missing | set(spoiled.copied) | set(spoiled.encoded)
    kept = []
    for scene, paths, format in rows:
        if left := tuple(path for path in paths if path not in skipped):
            kept.append(Picture(scene, left, format))
    return kept


@dataclass(frozen=True)
class Task:
    """Some pictures, to be drawn into the world's folder."""

    folder: Path
    seed: int
    pictures: list[Picture]


def draw_all(folder: Path, pictures: list[Picture], seed: int, progress: Progress, workers: int) -> None:
    """Write every picture; the bytes do not depend on the number of processes."""
    starts = range(0, len(pictures), PICTURES_A_TASK)
    tasks = [Task(folder, seed, pictures[start : start + PICTURES_A_TASK]) for start in starts]
    drawn = 0
    for count in run_tasks(_draw, tasks, workers, label="demo"):
        drawn += count
        progress(drawn, len(pictures))


def _draw(task: Task) -> int:
    """How many pictures were drawn."""
    for picture in task.pictures:
        write_picture(task.folder, picture, task.seed)
    return len(task.pictures)


def spoil(folder: Path, spoiled: Spoiled) -> None:
    """Copy, encode again and truncate."""
    for copy, original in sorted(spoiled.copied.items()):
        write_bytes(folder / copy, (folder / original).read_bytes())
    for copy, original in sorted(spoiled.encoded.items()):
        with Image.open(folder / original) as image:
            write_bytes(folder / copy, encode(image, "JPEG", COPY_QUALITY))
    for name in sorted(spoiled.truncated):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * TRUNCATED_AT)])


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file and the folders that lead to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
