"""Changes from one scene to the next, and the words that ask for them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from data_pipeline.demo.relations import CLEAR
from data_pipeline.demo.scene import (
    CELLS,
    COLORS,
    GAP,
    MARGIN,
    MATERIALS,
    SIZES,
    Scene,
    Thing,
    find_spot,
    pick,
    sample_thing,
    side,
)
from data_pipeline.demo.wording import refer

Random = np.random.Generator


def change(random: Random, scene: Scene, key: str, new_id: int) -> Scene:
    """The scene with one thing changed, moved, added (as `new_id`) or removed, under a key of its own."""
    while True:
        edit = EDITS[int(random.integers(len(EDITS)))]
        things = edit(random, scene, new_id)
        if things is not None:
            return replace(scene, key=key, things=tuple(things))


def _swap(scene: Scene, old: Thing, new: Thing) -> list[Thing]:
    return [new if thing is old else thing for thing in scene.things]


def _some(random: Random, scene: Scene) -> Thing:
    return scene.things[int(random.integers(len(scene.things)))]


def _recolor(random: Random, scene: Scene, new_id: int) -> list[Thing] | None:
    thing, color = _some(random, scene), pick(random, COLORS)
    return None if color == thing.color else _swap(scene, thing, replace(thing, color=color))


def _remake(random: Random, scene: Scene, new_id: int) -> list[Thing] | None:
    thing, material = _some(random, scene), pick(random, MATERIALS)
    return None if material == thing.material else _swap(scene, thing, replace(thing, material=material))


def _resize(random: Random, scene: Scene, new_id: int) -> list[Thing] | None:
    """Grow or shrink about the centre, where there is room."""
    thing = _some(random, scene)
    size = SIZES[1 - SIZES.index(thing.size)]
    length = side(random, size, max(scene.width, scene.height) / CELLS)
    shift = (thing.side - length) // 2
    new = replace(thing, size=size, side=length, x=thing.x + shift, y=thing.y + shift)
    others = [other for other in scene.things if other is not thing]
    return _swap(scene, thing, new) if _fits(scene, new, others) else None


def _fits(scene: Scene, thing: Thing, others: list[Thing]) -> bool:
    inside = thing.x >= MARGIN and thing.x + thing.side <= scene.width - MARGIN
    inside = inside and thing.y >= MARGIN and thing.y + thing.side <= scene.height - MARGIN
    return inside and not any(
        thing.x < other.x + other.side + GAP
        and other.x < thing.x + thing.side + GAP
        and thing.y < other.y + other.side + GAP
        and other.y < thing.y + thing.side + GAP
        for other in others
    )


def _move(random: Random, scene: Scene, new_id: int) -> list[Thing] | None:
    """To a free place that is clearly elsewhere."""
    thing = _some(random, scene)
    new = find_spot(
        random, thing, [other for other in scene.things if other is not thing], scene.width, scene.height
    )
    return _swap(scene, thing, new) if new and direction(scene, thing, new) else None


def _add(random: Random, scene: Scene, new_id: int) -> list[Thing] | None:
    thing = sample_thing(random, new_id, max(scene.width, scene.height) / CELLS)
    spot = (
        find_spot(random, thing, list(scene.things), scene.width, scene.height)
        if len(scene.things) < 5
        else None
    )
    return None if spot is None else [*scene.things, spot]


def _remove(random: Random, scene: Scene, new_id: int) -> list[Thing] | None:
    gone = _some(random, scene)
    return [thing for thing in scene.things if thing is not gone] if len(scene.things) > 3 else None


EDITS: tuple[Callable[[Random, Scene, int], list[Thing] | None], ...] = (
    _recolor,
    _remake,
    _resize,
    _move,
    _add,
    _remove,
)


def direction(scene: Scene, before: Thing, after: Thing) -> str:
    """Where a thing went: "to the left", "to the right", "up", "down"; "" if not clearly anywhere."""
    (column, row), (new_column, new_row) = scene.cell(before), scene.cell(after)
    across, down = new_column - column, new_row - row
    if max(abs(across), abs(down)) < CLEAR:
        return ""
    if abs(across) >= abs(down):
        return "to the left" if across < 0 else "to the right"
    return "up" if down < 0 else "down"


def caption(random: Random, reference: Scene, target: Scene) -> str | None:
    """The edit from reference to target, in words; None if it takes more than two, or has no clear words."""
    after = {thing.id: thing for thing in target.things}
    edits: list[str] = []
    for thing in reference.things:
        about = refer(random, reference, thing)
        words = about.words if about else ""
        stays = thing.id in after
        new = _changes(reference, words, thing, after[thing.id]) if stays else [f"remove the {words}"]
        if new and about is None:
            return None
        edits += new
    known = {thing.id for thing in reference.things}
    edits += [f"add a {_look(thing)}" for thing in target.things if thing.id not in known]
    return " and ".join(edits) if 1 <= len(edits) <= 2 else None


def _changes(scene: Scene, words: str, before: Thing, after: Thing) -> list[str]:
    """What happened to one thing."""
    changes = [
        f"make the {words} {getattr(after, kind)}"
        for kind in ("color", "size", "material")
        if getattr(before, kind) != getattr(after, kind)
    ]
    where = direction(scene, before, after)
    return [*changes, f"move the {words} {where}"] if where else changes


def _look(thing: Thing) -> str:
    return f"{thing.size} {thing.color} {thing.material} {thing.name}"
