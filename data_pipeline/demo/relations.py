"""Where one thing stands from another: said only where the picture leaves no doubt."""

from data_pipeline.demo.scene import Scene, Thing

CLEAR = 1.5  # cells of the 8×8 grid between two centres, from which a side can be asked
WRONG_SIDE = 0.5  # cells beyond which a thing is clearly not on that side
AXES = {"across": ("to the left of", "to the right of"), "down": ("above", "below")}
RELATIONS = tuple(relation for pair in AXES.values() for relation in pair)
OPPOSITE = {a: b for pair in AXES.values() for a, b in (pair, pair[::-1])}
AXIS = {relation: axis for axis, pair in AXES.items() for relation in pair}


def distance(scene: Scene, subject: Thing, relation: str, anchor: Thing) -> float:
    """Cells from `anchor` to `subject` in the relation's direction; negative: on the other side."""
    along = tuple(AXES).index(AXIS[relation])
    step = scene.cell(subject)[along] - scene.cell(anchor)[along]
    return -step if relation in ("to the left of", "above") else step


def holds(scene: Scene, subject: Thing, relation: str, anchor: Thing) -> bool:
    """Whether the relation is clear to see."""
    return distance(scene, subject, relation, anchor) >= CLEAR


def related(scene: Scene) -> list[tuple[Thing, str, Thing]]:
    """Every clear (subject, relation, anchor)."""
    return [
        (subject, relation, anchor)
        for subject in scene.things
        for anchor in scene.things
        if subject is not anchor
        for relation in RELATIONS
        if holds(scene, subject, relation, anchor)
    ]


def only_one(scene: Scene, relation: str, anchor: Thing) -> Thing | None:
    """The one thing that stands so from `anchor`, if all others clearly do not."""
    steps = [
        (distance(scene, other, relation, anchor), other) for other in scene.things if other is not anchor
    ]
    there = [other for step, other in steps if step >= CLEAR]
    doubtful = any(-WRONG_SIDE < step < CLEAR for step, _ in steps)
    return there[0] if len(there) == 1 and not doubtful else None
