"""Questions answered by a word: colour, material, name, and what stands where."""

from data_pipeline.demo.question import Question, Random, choice, predicate, select, some_reference, then
from data_pipeline.demo.relations import RELATIONS, only_one
from data_pipeline.demo.scene import Scene
from data_pipeline.demo.wording import Mention, compose, refer


def query_color(random: Random, scene: Scene) -> Question | None:
    """Such as: What color is the large ball?"""
    starts = ("What color is the ", "Which color is the ", "What is the color of the ")
    return _query_attribute(random, scene, "color", choice(random, starts), "?", "directOf")


def query_material(random: Random, scene: Scene) -> Question | None:
    """Such as: What is the ball made of?"""
    start, end = choice(random, (("What is the ", " made of?"), ("What material is the ", "?")))
    return _query_attribute(random, scene, "material", start, end, "material")


def _query_attribute(
    random: Random, scene: Scene, kind: str, start: str, end: str, detailed: str
) -> Question | None:
    about = some_reference(random, scene, kind)
    if kind not in scene.kinds or about is None:
        return None
    value = getattr(about.thing, kind)
    return Question(
        compose(start, about.mention, end),
        value,
        compose("The ", about.mention, f" is {predicate(kind, value)}."),
        then(select(about), f"query: {kind}"),
        ("query", "attr", detailed),
        f"10q-{about.thing.name}_{kind}",
        (kind, about.thing.id),
        group=kind,
    )


def query_name(random: Random, scene: Scene) -> Question | None:
    """Such as: What is the red object?"""
    about = some_reference(random, scene, "", noun="object")
    if about is None:
        return None
    start, end = choice(
        random, (("What is the ", "?"), ("What is the ", " called?"), ("What is the name of the ", "?"))
    )
    thing = about.thing
    return Question(
        compose(start, about.mention, end),
        thing.name,
        compose("The ", about.mention, " is a ", Mention(thing.name, thing.id), "."),
        then(select(about), "query: name"),
        ("query", "cat", "categoryAttr"),
        f"12q-object_{about.filters[0][1]}",
        ("name", thing.id),
        group="object",
        answer_thing=thing.id,
    )


def query_relation(random: Random, scene: Scene) -> Question | None:
    """Such as: What is to the left of the cube?"""
    cases = [
        (anchor, relation, thing)
        for anchor in scene.things
        for relation in RELATIONS
        if (thing := only_one(scene, relation, anchor))
    ]
    if not cases:
        return None
    stands_by, relation, thing = choice(random, tuple(cases))
    anchor = refer(random, scene, stands_by)
    if anchor is None:
        return None
    start = choice(random, ("What is ", "What object is ", "What is the object "))
    related_step = f"relate: _,{relation},s ({thing.id})"
    return Question(
        compose(f"{start}{relation} the ", anchor.mention, "?"),
        thing.name,
        compose("The ", Mention(thing.name, thing.id), f" is {relation} the ", anchor.mention, "."),
        then(then(select(anchor), related_step), "query: name"),
        ("query", "rel", "relS"),
        f"14-{anchor.thing.name}_{relation},s",
        ("name", relation, stands_by.id),
        group="object",
        answer_thing=thing.id,
    )
