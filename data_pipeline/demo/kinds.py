"""Kinds of things, such as "red cube": those in a picture, and those that are not."""

from dataclasses import dataclass
from itertools import product

from data_pipeline.demo.question import Random, Step, choice, shuffled, step
from data_pipeline.demo.scene import NAMES, Scene
from data_pipeline.demo.wording import Mention


@dataclass(frozen=True)
class Kind:
    """A value and a name, and the one thing that has both, if any."""

    kind: str
    value: str
    name: str
    thing: int | None = None

    @property
    def part(self) -> str | Mention:
        """The words, as a mention where there is a thing."""
        words = f"{self.value} {self.name}"
        return words if self.thing is None else Mention(words, self.thing)


def present(scene: Scene, kind: str) -> list[Kind]:
    """Kinds that fit exactly one thing."""
    pairs = [(getattr(thing, kind), thing.name) for thing in scene.things]
    return [
        Kind(kind, *pair, thing.id)
        for pair, thing in zip(pairs, scene.things, strict=True)
        if pairs.count(pair) == 1
    ]


def absent(scene: Scene, kind: str) -> list[Kind]:
    """Kinds that fit no thing, but whose name or value does."""
    pairs = {(getattr(thing, kind), thing.name) for thing in scene.things}
    values, names = {value for value, _ in pairs}, {name for _, name in pairs}
    every = product(scene.kinds[kind], NAMES)
    return [
        Kind(kind, *pair) for pair in every if pair not in pairs and (pair[0] in values or pair[1] in names)
    ]


def two_kinds(random: Random, scene: Scene, count: int) -> tuple[Kind, Kind] | None:
    """Two kinds that differ in name and value, `count` of them in the picture, in random order."""
    kind = choice(random, tuple(scene.kinds))
    here, gone = present(scene, kind), absent(scene, kind)
    pools = {0: (gone, gone), 1: (here, gone), 2: (here, here)}[count]
    pairs = [(a, b) for a, b in product(*pools) if a.name != b.name and a.value != b.value]
    return shuffled(random, choice(random, tuple(pairs))) if pairs else None


def exist_steps(asked: Kind, after: int = 0) -> list[Step]:
    """The program that looks for such a thing; `after` steps stand before these."""
    return [
        step(f"select: {asked.name} ({'-' if asked.thing is None else asked.thing})", []),
        step(f"filter {asked.kind}: {asked.value}", [after]),
        step("exist: ?", [after + 1]),
    ]
