"""The boxes that were kept: how many, how large, of which shape; and what `boxes.min_area` would drop."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import polars as pl
from msgspec import Struct

from contract import geometry
from contract.column import Transform
from data_pipeline.report.bins import counts

EDGES = ("x0", "y0", "x1", "y1")
PER_PICTURE = (1, 2, 3, 5, 9, 17, 33)
PER_PICTURE_LABELS = ("0", "1", "2", "3–4", "5–8", "9–16", "17–32", "33 +")
AREA = (0.0025, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5)  # shares of the picture
AREA_LABELS = ("< 0.25 %", "0.25–1 %", "1–2 %", "2–5 %", "5–10 %", "10–25 %", "25–50 %", "> 50 %")
ASPECT = (0.25, 0.5, 0.8, 1.25, 2.0, 4.0)  # width / height in pixels
ASPECT_LABELS = ("< 1:4", "1:4–1:2", "1:2–4:5", "square", "5:4–2:1", "2:1–4:1", "> 4:1")


class BoxFacts(Struct):
    """Boxes of one dataset. sizes: {share of the picture: boxes smaller}, out of `measured` boxes.

    measured: boxes that no other rule rejected, those under `boxes.min_area` included.
    unseen: {encoder: boxes of which its input holds less than half}.
    """

    dataset: str
    boxes: int
    crowd: int
    pictures: int
    per_picture: dict[str, int]
    area: dict[str, int]
    aspect: dict[str, int]
    measured: int
    sizes: dict[str, int]
    unseen: dict[str, int]


def boxes(
    datasets: Iterable[str],
    catalogue: pl.DataFrame,
    found: pl.DataFrame,
    transforms: Mapping[str, Transform],
) -> list[BoxFacts]:
    """The datasets that have boxes. transforms: of each encoder."""
    small = dict(found.filter(reason="box_too_small").group_by("dataset").len().iter_rows())
    facts = [
        _of_dataset(name, catalogue.filter(dataset=name), small.get(name, 0), transforms) for name in datasets
    ]
    return [fact for fact in facts if fact.measured]


def _of_dataset(
    dataset: str, pictures: pl.DataFrame, too_small: int, transforms: Mapping[str, Transform]
) -> BoxFacts:
    columns = ["picture", *EDGES, "crowd"]
    kept = pl.read_parquet(f"validate/{dataset}/regions.parquet", columns=columns)
    sized = kept.join(pictures.select("picture", "width", "height"), on="picture", how="left")
    width, height = sized["x1"] - sized["x0"], sized["y1"] - sized["y0"]
    held = pictures.join(kept.group_by("picture").len(), on="picture", how="left")["len"].fill_null(0)
    shape = (width * sized["width"]) / (height * sized["height"])
    return BoxFacts(
        dataset=dataset,
        boxes=len(kept),
        crowd=int(kept["crowd"].sum()),
        pictures=len(pictures),
        per_picture=counts(held, PER_PICTURE, PER_PICTURE_LABELS),
        area=counts(width * height, AREA, AREA_LABELS),
        aspect=counts(shape, ASPECT, ASPECT_LABELS),
        measured=len(kept) + too_small,
        sizes=json.loads(Path("validate", dataset, "box_sizes.json").read_text()),
        unseen={encoder: unseen(sized, transform) for encoder, transform in transforms.items()},
    )


def unseen(sized: pl.DataFrame, transform: Transform) -> int:
    """Boxes that a transform cuts away. sized: their edges, and the width and height of their picture."""
    lost = 0
    for (width, height), part in sized.partition_by("width", "height", as_dict=True).items():
        place = geometry.affine(transform, width, height)
        _, of_use = geometry.to_input(part.select(EDGES).to_numpy(), place)
        lost += int(np.count_nonzero(~of_use))
    return lost
