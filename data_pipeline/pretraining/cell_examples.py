"""Generated pictures and their scene graphs → what the demo's encoders learn from: inputs, boxes, labels.

P pictures, R regions a picture, K kinds of label, S side of the input, N cells. Label -1 is unknown.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract import boxes
from contract.errors import RawDataError
from contract.geometry import cell_centres
from data_pipeline.demo.scene import COLORS, MATERIALS, NAMES, SIZES
from data_pipeline.pictures.picture_files import Pixels, decode_rgb

Boxes = NDArray[np.float64]
Labels = NDArray[np.int64]
UNKNOWN = -1
KINDS = (NAMES, COLORS, MATERIALS, SIZES)
CLASSES = tuple(len(kind) for kind in KINDS)
COVERED = 0.3  # share of a cell that a region must cover to be what the cell shows


@dataclass(frozen=True)
class Shown:
    """One picture: its file, boxes [R,4] normalised xyxy and labels [R,K]."""

    path: Path
    boxes: Boxes
    labels: Labels


@dataclass(frozen=True)
class Examples:
    """inputs: uint8 [P,S,S,3]. boxes: [P,R,4], padded with empty ones. labels: [P,R,K]."""

    inputs: Pixels
    boxes: Boxes
    labels: Labels

    def __len__(self) -> int:
        return len(self.inputs)


def shown(world: Path, split: str) -> Iterator[Shown]:
    """The split's sound pictures, in the order of the scene graphs.

    The world's own list of defects says which files, boxes and evaluation copies to leave out.
    """
    rejected = _rejected(world / "defects.json")
    for picture, graph in _load(world / "gqa" / f"{split}_sceneGraphs.json").items():
        if picture not in rejected:
            objects = graph["objects"].items()
            things = [thing for name, thing in objects if f"{picture}/{name}" not in rejected]
            xywh = [[thing[side] for side in "xywh"] for thing in things]
            normalised = boxes.from_xywh(xywh, graph["width"], graph["height"])
            labels = np.array([_labels(thing) for thing in things], np.int64).reshape(-1, len(KINDS))
            yield Shown(world / "gqa/images" / f"{picture}.jpg", normalised, labels)


def _rejected(path: Path) -> set[str]:
    """Ids of GQA's pictures ("2315001") and regions ("2315001/700003") that the pipeline must reject."""
    return {
        row["id"]
        for row in _load(path)["defects"]
        if row["dataset"] == "gqa" and row["table"] in ("images", "regions") and row["outcome"] == "reject"
    }


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise RawDataError(path, "no such file", fix="generate the world: dvc repro demo") from None


def _labels(thing: dict[str, Any]) -> list[int]:
    """One class per kind, as the scene graph says it."""
    words = [thing["name"], *thing["attributes"]]
    return [next((kind.index(word) for word in words if word in kind), UNKNOWN) for kind in KINDS]


def examples(pictures: Sequence[Shown], transform: Callable[[Pixels], Pixels]) -> Examples:
    """Decode and transform every picture, and pad the regions to the same number."""
    most = max((len(picture.boxes) for picture in pictures), default=0)
    padded_boxes = np.zeros((len(pictures), most, 4))
    padded_labels = np.full((len(pictures), most, len(KINDS)), UNKNOWN)
    for row, picture in enumerate(pictures):
        padded_boxes[row, : len(picture.boxes)] = picture.boxes
        padded_labels[row, : len(picture.boxes)] = picture.labels
    inputs = np.stack([transform(decode_rgb(picture.path)) for picture in pictures])
    return Examples(inputs, padded_boxes, padded_labels)


def cell_labels(boxes_PR4: Boxes, labels_PRK: Labels, grid: int) -> Labels:
    """[P,N,K]: the labels of the region that covers most of each cell, if it covers COVERED of it.

    Kind 0 counts from 1: 0 is a cell without any region. A cell that a region just touches is unknown.
    """
    covered = coverage(boxes_PR4, grid)
    best, share = covered.argmax(1), covered.max(1)[..., None]
    labels = np.take_along_axis(labels_PRK, best[..., None], 1)
    labels[..., 0] += labels[..., 0] > UNKNOWN
    background = np.full(labels_PRK.shape[2], UNKNOWN)
    background[0] = 0
    return np.where(share >= COVERED, labels, np.where(share == 0, background, UNKNOWN))


def cell_boxes(boxes_PR4: Boxes, grid: int) -> NDArray[np.float32]:
    """[P,N,4]: the box of the region that covers most of each cell, in cells, from the cell's centre."""
    best = coverage(boxes_PR4, grid).argmax(1)
    centres = np.tile(cell_centres(grid) * grid, 2)
    return (np.take_along_axis(boxes_PR4 * grid, best[..., None], 1) - centres).astype(np.float32)


def coverage(boxes_PR4: Boxes, grid: int) -> NDArray[np.float64]:
    """[P,R,N]: which share of each cell each box covers."""
    edges = np.arange(grid)
    low, high = boxes_PR4[..., :2, None] * grid, boxes_PR4[..., 2:, None] * grid
    overlap = (np.minimum(high, edges + 1) - np.maximum(low, edges)).clip(0)  # [P,R,2 (x, y),grid]
    across, down = overlap[..., 0, :], overlap[..., 1, :]
    return (down[..., :, None] * across[..., None, :]).reshape(*boxes_PR4.shape[:2], -1)


def pairs_present(labels_PRK: Labels) -> NDArray[np.float32]:
    """[P, names · colours] 0 or 1: which pairs of name and colour the picture holds."""
    names, colors = labels_PRK[..., 0], labels_PRK[..., 1]
    picture, region = np.nonzero((names > UNKNOWN) & (colors > UNKNOWN))
    pairs = np.zeros((len(labels_PRK), CLASSES[0] * CLASSES[1]), np.float32)
    pairs[picture, names[picture, region] * CLASSES[1] + colors[picture, region]] = 1
    return pairs
