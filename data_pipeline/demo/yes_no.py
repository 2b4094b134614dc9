"""Questions answered by yes or no. A fair coin says which before the words are chosen."""

from itertools import permutations

from data_pipeline.demo.kinds import Kind, absent, exist_steps, present, two_kinds
from data_pipeline.demo.question import (
    Question,
    Random,
    choice,
    coin,
    opening,
    other,
    pair_fact,
    pair_group,
    predicate,
    select,
    some_pair,
    some_reference,
    step,
    then,
    yes_or_no,
)
from data_pipeline.demo.relations import OPPOSITE
from data_pipeline.demo.scene import Scene
from data_pipeline.demo.wording import Reference, Text, compose, refer


def verify_attribute(random: Random, scene: Scene) -> Question | None:
    """Such as: Is the cube red?"""
    kind = choice(random, tuple(scene.kinds))
    about = some_reference(random, scene, kind)
    if about is None:
        return None
    yes, value = coin(random), getattr(about.thing, kind)
    asked = value if yes else other(random, scene.kinds[kind], value)
    return Question(
        compose("Is the ", about.mention, f" {predicate(kind, asked)}?"),
        yes_or_no(yes),
        compose(f"{opening(yes)}the ", about.mention, f" is {predicate(kind, value)}."),
        then(select(about), f"verify {kind}: {asked}"),
        ("verify", "attr", "verifyAttr" if yes else "verifyAttrC"),
        f"06-{about.thing.name}_{asked}",
        (kind, about.thing.id),
    )


def verify_existence(random: Random, scene: Scene) -> Question | None:
    """Such as: Is there a red cube?"""
    kind, yes = choice(random, tuple(scene.kinds)), coin(random)
    kinds = present(scene, kind) if yes else absent(scene, kind)
    if not kinds:
        return None
    asked = choice(random, tuple(kinds))
    ending = choice(random, ("?", " in the picture?", " in this picture?"))
    return Question(
        compose("Is there a ", asked.part, ending),
        yes_or_no(yes),
        compose(f"{opening(yes)}there is {'a' if yes else 'no'} ", asked.part, "."),
        exist_steps(asked),
        ("verify", "obj", "existAttr" if yes else "existAttrC"),
        f"04-{asked.name}_{asked.value}",
        ("exist", asked.value, asked.name),
    )


def verify_relation(random: Random, scene: Scene) -> Question | None:
    """Such as: Is the ball to the left of the cone?"""
    pair = some_pair(random, scene)
    if pair is None:
        return None
    subject, relation, anchor = pair
    yes = coin(random)
    asked = relation if yes else OPPOSITE[relation]
    return Question(
        compose("Is the ", subject.mention, f" {asked} the ", anchor.mention, "?"),
        yes_or_no(yes),
        compose(f"{opening(yes)}the ", subject.mention, f" is {relation} the ", anchor.mention, "."),
        then(select(anchor), f"verify rel: {subject.thing.name},{asked},s ({subject.thing.id})"),
        ("verify", "rel", "relVerify" if yes else "relVerifyCr"),
        pair_group("13", subject, anchor),
        pair_fact(subject, relation, anchor),
    )


def both_exist(random: Random, scene: Scene) -> Question | None:
    """Such as: Are there both a red cube and a blue ball? No: just one of them is there."""
    yes = coin(random)
    pair = two_kinds(random, scene, count=2 if yes else 1)
    if pair is None:
        return None
    first, second = pair
    text = compose("Are there both a ", first.part, " and a ", second.part, "?")
    start = "Yes, there are both a " if yes else "No, there are not both a "
    return _logical(pair, "and", yes, text, compose(start, first.part, " and a ", second.part, "."))


def either_exists(random: Random, scene: Scene) -> Question | None:
    """Such as: Is there either a red cube or a blue ball? Yes: just one of them is there."""
    yes = coin(random)
    pair = two_kinds(random, scene, count=1 if yes else 0)
    if pair is None:
        return None
    first, second = pair
    text = compose("Is there either a ", first.part, " or a ", second.part, "?")
    start, between = ("Yes, there is a ", " or a ") if yes else ("No, there is neither a ", " nor a ")
    return _logical(pair, "or", yes, text, compose(start, first.part, between, second.part, "."))


def _logical(pair: tuple[Kind, Kind], operation: str, yes: bool, text: Text, full: Text) -> Question:
    first, second = exist_steps(pair[0]), exist_steps(pair[1], after=3)
    names = "_".join(sorted(kind.name for kind in pair))
    return Question(
        text,
        yes_or_no(yes),
        full,
        [*first, *second, step(f"{operation}: ", [2, 5])],
        ("logical", "obj", f"exist{operation.title()}{'' if yes else 'C'}"),
        f"09exist{operation.title()}-{names}",
        (operation, *(f"{kind.value} {kind.name}" for kind in pair)),
    )


def compare(random: Random, scene: Scene) -> Question | None:
    """Such as: Do the ball and the cone have the same color? Asked where both answers are possible."""
    kind = choice(random, tuple(kind for kind in scene.kinds if kind != "size"))
    pairs: dict[bool, list[tuple[Reference, Reference]]] = {True: [], False: []}
    told = {thing.id: refer(random, scene, thing, without=kind) for thing in scene.things}
    for a, b in permutations(scene.things, 2):
        first, second = told[a.id], told[b.id]
        if first and second:
            pairs[getattr(a, kind) == getattr(b, kind)].append((first, second))
    if not pairs[True] or not pairs[False]:
        return None
    same = coin(random)
    return _compared(random, kind, same, *choice(random, tuple(pairs[same])))


def _compared(random: Random, kind: str, same: bool, first: Reference, second: Reference) -> Question:
    values = [predicate(kind, getattr(about.thing, kind)) for about in (first, second)]
    if same:
        full = compose("Yes, both the ", first.mention, " and the ", second.mention, f" are {values[0]}.")
    else:
        halves = f" is {values[0]} and the ", f" is {values[1]}."
        full = compose("No, the ", first.mention, halves[0], second.mention, halves[1])
    one, two = select(first), select(second, after=len(select(first)))
    ends = [len(one) - 1, len(one) + len(two) - 1]
    return Question(
        compose("Do the ", first.mention, " and the ", second.mention, f" have the same {kind}?"),
        yes_or_no(same),
        full,
        [*one, *two, step(f"same {kind}: ", ends)],
        ("compare", "attr", "twoSame" if same else "twoSameC"),
        pair_group("09same", first, second),
        ("same", kind, *sorted((first.thing.id, second.thing.id))),
    )


def either_or_both(random: Random, scene: Scene) -> Question | None:
    """Two kinds of things at once, by "and" or by "or"."""
    return both_exist(random, scene) if coin(random) else either_exists(random, scene)
