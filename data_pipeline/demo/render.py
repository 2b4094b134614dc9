"""Draw a scene: a soft background of its own, and things whose silhouettes fill their boxes."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from contract.seeds import rng
from data_pipeline.demo.scene import Scene, Thing

RGB = {
    "red": (208, 32, 32),
    "green": (36, 150, 52),
    "blue": (38, 66, 214),
    "yellow": (242, 216, 36),
    "purple": (122, 42, 166),
    "cyan": (46, 204, 218),
    "pink": (252, 142, 192),
}
OVERSAMPLING = 4  # silhouettes are drawn this much larger, then averaged
QUALITY = 90
COPY_QUALITY = 95  # of a picture that another dataset encodes again


@dataclass(frozen=True)
class Picture:
    """A file to draw. paths: relative to the world's folder; all of them get the same bytes."""

    scene: Scene
    paths: tuple[str, ...]
    format: str = "JPEG"  # of the content, whatever the name says


def write_picture(folder: Path, picture: Picture, seed: int) -> None:
    """Draw and write one picture under each of its names."""
    content = encode(draw(picture.scene, seed), picture.format)
    for name in picture.paths:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def encode(image: Image.Image, format: str, quality: int = QUALITY) -> bytes:
    """The bytes of a picture file; JPEG drops transparency."""
    buffer = io.BytesIO()
    if format == "JPEG":
        (image.convert("RGB") if image.mode == "RGBA" else image).save(buffer, "JPEG", quality=quality)
    else:
        image.save(buffer, format, compress_level=1)
    return buffer.getvalue()


def draw(scene: Scene, seed: int) -> Image.Image:
    """The scene's picture, uint8, in the scene's mode. A pure function of scene and seed."""
    image = background(scene, seed)
    for thing in scene.things:
        image.paste(_surface(thing, seed, scene.key), thing.box[:2], silhouette(thing.name, thing.side))
    return image.convert(scene.mode)


def background(scene: Scene, seed: int) -> Image.Image:
    """Low-frequency noise over a muted tone: it gives each picture a perceptual hash of its own."""
    random = rng(seed, "background", scene.key)
    tone = random.uniform(85, 175) + random.uniform(-14, 14, 3)
    light = random.uniform(-36, 36, (5, 6, 1))
    tint = random.uniform(-10, 10, (5, 6, 3))
    coarse = np.clip(tone + light + tint, 0, 255).astype(np.uint8)
    return Image.fromarray(coarse).resize((scene.width, scene.height), Image.Resampling.BICUBIC)


def silhouette(name: str, side: int, scale: float = 1.0) -> Image.Image:
    """A mask [side, side], 255 inside the outline, shrunk about the centre by `scale`."""
    mask = Image.new("L", (side * OVERSAMPLING, side * OVERSAMPLING))
    points = (OUTLINES[name] - 0.5) * scale + 0.5
    ImageDraw.Draw(mask).polygon([tuple(point) for point in points * (side * OVERSAMPLING - 1)], fill=255)
    return mask.reduce(OVERSAMPLING)


def _surface(thing: Thing, seed: int, key: str) -> Image.Image:
    """RGB [side, side]: the thing's colour in its material, with a dark rim."""
    phase = rng(seed, "surface", key, thing.id).random()
    across, down = np.meshgrid(*[(np.arange(thing.side) + 0.5) / thing.side] * 2)
    shade, gloss = MATERIAL[thing.material](across, down, phase)
    if thing.name == "cube":
        shade = shade * _cube_faces(across, down)
    inner = np.asarray(silhouette(thing.name, thing.side, 0.9), np.float64) / 255
    color = np.array(RGB[thing.color]) * (shade * (0.45 + 0.55 * inner))[..., None]
    color = color + (255 - color) * (gloss * inner)[..., None]
    return Image.fromarray(np.clip(color, 0, 255).astype(np.uint8))


def _metal(across: np.ndarray, down: np.ndarray, phase: float) -> tuple[np.ndarray, np.ndarray]:
    """Two bright diagonal bands over a gradient."""
    diagonal = (across + down) / 2 + 0.1 * (phase - 0.5)
    gloss = 0.85 * np.exp(-(((diagonal - 0.32) / 0.07) ** 2)) + 0.6 * np.exp(
        -(((diagonal - 0.68) / 0.05) ** 2)
    )
    return 1.0 - 0.3 * down, gloss


def _wood(across: np.ndarray, down: np.ndarray, phase: float) -> tuple[np.ndarray, np.ndarray]:
    """Dark, slightly wavy grain, four stripes from top to bottom."""
    grain = np.sin(2 * np.pi * (4 * down + 0.12 * np.sin(2 * np.pi * across) + phase))
    return np.where(grain > 0, 1.0, 0.5), np.zeros_like(down)


def _rubber(across: np.ndarray, down: np.ndarray, phase: float) -> tuple[np.ndarray, np.ndarray]:
    """Plain and matte."""
    return 0.95 - 0.1 * down, np.zeros_like(down)


MATERIAL = {"metal": _metal, "wood": _wood, "rubber": _rubber}


def _cube_faces(across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Lighter top, darker right side, so that the hexagon reads as a cube."""
    top = (down < 0.25) & (across + down < 1)
    right = (across > 0.75) & ~top
    return np.where(top, 1.15, np.where(right, 0.65, 1.0))


def _circle(radius: float = 0.5, points: int = 40) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return 0.5 + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _ring() -> np.ndarray:
    """The outer circle, then the inner one backwards: one path, a hole in COCO polygons too."""
    outer, inner = _circle(), _circle(0.24)
    return np.concatenate([outer, outer[:1], inner[:1], inner[::-1]])


def _star() -> np.ndarray:
    angle = -np.pi / 2 + np.arange(10) * np.pi / 5
    radius = np.where(np.arange(10) % 2, 0.45, 1.0)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    down = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([16 * np.sin(t) ** 3, down], axis=1)


def _cone() -> np.ndarray:
    angle = np.linspace(0, np.pi, 16)
    base = np.stack([0.5 + 0.5 * np.cos(angle), 0.86 + 0.14 * np.sin(angle)], axis=1)
    return np.concatenate([[[0.5, 0.0]], base])


def _filling(points: np.ndarray) -> np.ndarray:
    """Stretch an outline to touch all four sides of the unit square: boxes are tight by construction."""
    low, high = points.min(axis=0), points.max(axis=0)
    filled: np.ndarray = (points - low) / (high - low)
    return filled


OUTLINES = {
    "cube": np.array([(0, 0.25), (0.25, 0), (1, 0), (1, 0.75), (0.75, 1), (0, 1)], float),
    "ball": _filling(_circle()),
    "cone": _filling(_cone()),
    "star": _filling(_star()),
    "ring": _filling(_ring()),
    "heart": _filling(_heart()),
}
