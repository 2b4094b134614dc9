"""Questions that offer two answers, the right one first or second by a fair coin."""

from data_pipeline.demo.question import (
    Question,
    Random,
    choice,
    other,
    pair_fact,
    pair_group,
    predicate,
    select,
    shuffled,
    some_pair,
    some_reference,
    then,
)
from data_pipeline.demo.relations import AXES, AXIS
from data_pipeline.demo.scene import Scene
from data_pipeline.demo.wording import compose

# GQA answers "to the left or to the right of" by one word.
SIDE = {"to the left of": "left", "to the right of": "right", "above": "above", "below": "below"}


def choose_attribute(random: Random, scene: Scene) -> Question | None:
    """Such as: Is the cube red or blue?"""
    kind = choice(random, tuple(scene.kinds))
    about = some_reference(random, scene, kind)
    if about is None:
        return None
    value = getattr(about.thing, kind)
    options = shuffled(random, (value, other(random, scene.kinds[kind], value)))
    detailed = "materialChoose" if kind == "material" else "chooseAttr"
    return Question(
        compose("Is the ", about.mention, f" {predicate(kind, options[0])} or {options[1]}?"),
        value,
        compose("The ", about.mention, f" is {predicate(kind, value)}."),
        then(select(about), f"choose {kind}: {options[0]}|{options[1]}"),
        ("choose", "attr", detailed),
        f"10c-{about.thing.name}_{kind}",
        (kind, about.thing.id),
        group="" if kind == "size" else kind,
    )


def choose_relation(random: Random, scene: Scene) -> Question | None:
    """Such as: Is the ball to the left or to the right of the cone?"""
    pair = some_pair(random, scene)
    if pair is None:
        return None
    subject, relation, anchor = pair
    first, second = shuffled(random, AXES[AXIS[relation]])
    spoken = f"{first.removesuffix(' of')} or {second}"
    return Question(
        compose("Is the ", subject.mention, f" {spoken} the ", anchor.mention, "?"),
        SIDE[relation],
        compose("The ", subject.mention, f" is {relation} the ", anchor.mention, "."),
        then(select(anchor), f"choose rel: {subject.thing.name},{first}|{second},s ({subject.thing.id})"),
        ("choose", "rel", "relChooser"),
        pair_group("13", subject, anchor),
        pair_fact(subject, relation, anchor),
    )
