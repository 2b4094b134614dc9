"""One question with its program, and the choices that all kinds of questions make."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from data_pipeline.demo.relations import AXIS, related
from data_pipeline.demo.scene import Scene
from data_pipeline.demo.wording import Reference, Text, refer

T = TypeVar("T")
Random = np.random.Generator
Step = dict[str, object]  # operation, dependencies, argument


@dataclass(frozen=True)
class Question:
    """One question. fact: what it asks about, equal for questions that entail each other."""

    text: Text
    answer: str
    full: Text
    program: list[Step]
    types: tuple[str, str, str]  # structural, semantic, detailed
    local: str
    fact: tuple[object, ...]
    group: str | None = None
    answer_thing: int | None = None


def step(command: str, dependencies: list[int]) -> Step:
    """From "operation: argument" and the steps whose results it takes."""
    operation, _, argument = command.partition(": ")
    return {"operation": operation, "dependencies": dependencies, "argument": argument}


def then(program: list[Step], command: str) -> list[Step]:
    """The program and one more step, which takes the last result."""
    return [*program, step(command, [len(program) - 1])]


def select(about: Reference, after: int = 0) -> list[Step]:
    """Select the thing by its noun, then filter; `after` steps stand before these."""
    program = [step(f"select: {about.noun} ({about.thing.id})", [])]
    for kind, value in about.filters:
        program.append(step(f"filter {kind}: {value}", [after + len(program) - 1]))
    return program


def choice(random: Random, values: tuple[T, ...]) -> T:
    """One of the values, each as likely as the others."""
    return values[int(random.integers(len(values)))]


def shuffled(random: Random, pair: tuple[T, T]) -> tuple[T, T]:
    """The pair, either way round."""
    return pair if coin(random) else (pair[1], pair[0])


def other(random: Random, values: tuple[str, ...], value: str) -> str:
    """Any of the values but this one."""
    return choice(random, tuple(other for other in values if other != value))


def coin(random: Random) -> bool:
    """A fair coin."""
    return bool(random.random() < 0.5)


def some_reference(
    random: Random, scene: Scene, without: str = "", noun: str | None = None
) -> Reference | None:
    """A reference to any of the things, if it has one."""
    return refer(random, scene, choice(random, scene.things), without, noun)


def some_pair(random: Random, scene: Scene) -> tuple[Reference, str, Reference] | None:
    """Two things in a clear relation."""
    found = related(scene)
    if not found:
        return None
    subject, relation, anchor = choice(random, tuple(found))
    first, second = refer(random, scene, subject), refer(random, scene, anchor)
    return (first, relation, second) if first and second else None


def pair_group(prefix: str, first: Reference, second: Reference) -> str:
    """GQA's local group of a question about two things."""
    return f"{prefix}-{first.thing.name}_{second.thing.name}"


def pair_fact(first: Reference, relation: str, second: Reference) -> tuple[object, ...]:
    """The fact that a clear relation is about: both things and the axis."""
    return (AXIS[relation], *sorted((first.thing.id, second.thing.id)))


def predicate(kind: str, value: str) -> str:
    """What stands behind "is": red, large, made of metal."""
    return f"made of {value}" if kind == "material" else value


def yes_or_no(yes: bool) -> str:
    """The answer."""
    return "yes" if yes else "no"


def opening(yes: bool) -> str:
    """How the full answer begins."""
    return "Yes, " if yes else "No, "
