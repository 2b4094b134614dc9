"""What the annotations say of a picture: its things, and what can be concluded from their places."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from data_pipeline.negatives.wording import singular

Box = tuple[float, float, float, float]
CLEAR = 0.1  # of the picture's side between two centres, below which no side is told
SAME_PLACE = 0.5  # intersection over union from which two boxes of one name may show the same
SHARED = 0.5  # of the smaller extent: boxes that overlap more along an axis have no order on it

# relation → (axis, whether the subject has the smaller coordinate)
RELATIONS: dict[str, tuple[int, bool]] = {
    "left of": (0, True),
    "right of": (0, False),
    "above": (1, True),
    "below": (1, False),
    "under": (1, False),
    "beneath": (1, False),
    "underneath": (1, False),
}


@dataclass(frozen=True, eq=False)  # two things may look alike
class Thing:
    """A region. name: singular. box: xyxy in [0,1]. crowd: many things in one box, their places not known."""

    name: str
    attributes: frozenset[str]
    box: Box
    crowd: bool = False


class Scene(Struct, frozen=True):
    """A picture's things with a name. exhaustive: names of which every thing in the picture has a box."""

    things: tuple[Thing, ...]
    exhaustive: Collection[str] = frozenset()


def scene(regions: Iterable[Mapping[str, Any]], exhaustive: Collection[str]) -> Scene:
    """From rows of validate/<dataset>/regions.parquet of one picture."""
    return Scene(tuple(_thing(row) for row in regions if row["name"]), exhaustive)


def _thing(row: Mapping[str, Any]) -> Thing:
    attributes = frozenset(value.lower() for value in row["attributes"] or ())
    box = (row["x0"], row["y0"], row["x1"], row["y1"])
    name = row["name"].lower()
    return Thing(singular(name), attributes, box, row["crowd"] or singular(name) != name)


def stands(subject: Thing, relation: str, anchor: Thing) -> bool | None:
    """Whether the relation holds between two boxes; None where it is not clear to see."""
    axis, smaller = RELATIONS[relation]
    low, high = _extent(subject, axis), _extent(anchor, axis)
    step = (low[0] + low[1] - high[0] - high[1]) / 2
    shared = min(low[1], high[1]) - max(low[0], high[0])
    narrow = min(low[1] - low[0], high[1] - high[0])
    if subject.crowd or anchor.crowd or abs(step) < CLEAR or shared > SHARED * narrow:
        return None
    return (step < 0) == smaller


def _extent(thing: Thing, axis: int) -> tuple[float, float]:
    return thing.box[axis], thing.box[axis + 2]


def overlap(first: Box, second: Box) -> float:
    """Intersection over union."""
    across = min(first[2], second[2]) - max(first[0], second[0])
    down = min(first[3], second[3]) - max(first[1], second[1])
    if across <= 0 or down <= 0:
        return 0.0
    both = across * down
    return both / (_area(first) + _area(second) - both)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
