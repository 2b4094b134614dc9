"""What is in a generated picture: things with name, colour, size and material, and where they stand."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from contract.seeds import rng

NAMES = ("cube", "ball", "cone", "star", "ring", "heart")
COLORS = ("red", "green", "blue", "yellow", "purple", "cyan", "pink")
SIZES = ("small", "large")
MATERIALS = ("metal", "wood", "rubber")

# An encoder of the demo sees an 8×8 grid of the squashed picture: sizes and distances are said in its cells.
CELLS = 8
SIDES = {
    "small": (1.35, 1.5),
    "large": (1.95, 2.1),
}  # in cells of the longer side, so ≥ that in both directions
GAP = 3  # pixels between two things
MARGIN = 1  # pixels between a thing and the edge

Mode = Literal["RGB", "L", "RGBA"]


@dataclass(frozen=True)
class Thing:
    """One thing. (x, y) is the top-left pixel of its tight box, a square of `side` pixels."""

    id: int
    name: str
    color: str
    size: str
    material: str
    side: int
    x: int = 0
    y: int = 0

    @property
    def box(self) -> tuple[int, int, int, int]:
        """xywh in pixels, 0-based."""
        return self.x, self.y, self.side, self.side

    @property
    def look(self) -> tuple[str, str, str, str]:
        """What tells it from other things, its place aside."""
        return self.name, self.color, self.size, self.material


@dataclass(frozen=True)
class Scene:
    """A picture before it is drawn. `key` is unique and seeds its background; mode "L" hides colours."""

    key: str
    width: int
    height: int
    mode: Mode
    things: tuple[Thing, ...]

    @property
    def kinds(self) -> dict[str, tuple[str, ...]]:
        """The attributes a viewer can tell in this picture, with their values."""
        colors = {} if self.mode == "L" else {"color": COLORS}
        return colors | {"size": SIZES, "material": MATERIALS}

    def attributes(self, thing: Thing) -> list[str]:
        """The visible attributes of a thing: colour, size, material."""
        return [getattr(thing, kind) for kind in self.kinds]

    def cell(self, thing: Thing) -> tuple[float, float]:
        """(column, row) of a thing's centre in cells of the 8×8 grid, [0, 8)."""
        half = thing.side / 2
        return CELLS * (thing.x + half) / self.width, CELLS * (thing.y + half) / self.height


def sample_scene(seed: int, key: str, first_id: int, mode: Mode = "RGB") -> Scene:
    """A scene of 3 to 5 things, numbered from `first_id`; a pure function of its arguments.

    Names, materials and sizes are independent and uniform, so none tells another; every second scene repeats
    a colour, so that "the same color" is worth asking.
    """
    random = rng(seed, "scene", key)
    width, height = _canvas(random)
    cell = max(width, height) / CELLS
    things = [sample_thing(random, first_id + number, cell) for number in range(random.integers(3, 6))]
    if random.random() < 0.5:
        source, copy = random.permutation(len(things))[:2]
        things[copy] = replace(things[copy], color=things[source].color)
    return Scene(key, width, height, mode, arrange(random, things, width, height))


def sample_thing(random: np.random.Generator, thing_id: int, cell: float) -> Thing:
    """A thing without a place; `cell` is the length of a grid cell in pixels."""
    size = pick(random, SIZES)
    return Thing(
        thing_id,
        pick(random, NAMES),
        pick(random, COLORS),
        size,
        pick(random, MATERIALS),
        side(random, size, cell),
    )


def side(random: np.random.Generator, size: str, cell: float) -> int:
    """The side in pixels of a small or large thing."""
    return round(random.uniform(*SIDES[size]) * cell)


def pick(random: np.random.Generator, values: tuple[str, ...]) -> str:
    """One of the values, each as likely as the others."""
    return values[int(random.integers(len(values)))]


def arrange(random: np.random.Generator, things: list[Thing], width: int, height: int) -> tuple[Thing, ...]:
    """Place the things apart from each other; in the rare crowd that does not fit, the last one leaves."""
    for _ in range(20):
        placed: list[Thing] = []
        for thing in things:
            spot = find_spot(random, thing, placed, width, height)
            if spot is None:
                break
            placed.append(spot)
        else:
            return tuple(placed)
    return arrange(random, things[:-1], width, height)


def find_spot(
    random: np.random.Generator, thing: Thing, others: list[Thing], width: int, height: int
) -> Thing | None:
    """The thing at a free place, or None after 60 tries."""
    room = np.array([width, height]) - thing.side - 2 * MARGIN + 1
    for x, y in (MARGIN + random.random((60, 2)) * room).astype(int).tolist():
        if all(_apart(x, y, thing.side, other) for other in others):
            return replace(thing, x=x, y=y)
    return None


def _apart(x: int, y: int, side: int, other: Thing) -> bool:
    across = x >= other.x + other.side + GAP or other.x >= x + side + GAP
    return across or y >= other.y + other.side + GAP or other.y >= y + side + GAP


def _canvas(random: np.random.Generator) -> tuple[int, int]:
    """(width, height): the longer side 160 to 224 pixels, up to 1.4 times the shorter; a quarter portrait."""
    longer = int(random.integers(160, 225))
    shorter = round(longer / random.uniform(1.0, 1.4))
    return (shorter, longer) if random.random() < 0.25 else (longer, shorter)
