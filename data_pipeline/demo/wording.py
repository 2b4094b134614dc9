"""Texts with mentions: which words name which thing, and how to refer to one thing and no other."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from data_pipeline.demo.scene import Scene, Thing


@dataclass(frozen=True)
class Mention:
    """Words of a text that stand for a thing."""

    words: str
    thing: int


@dataclass(frozen=True)
class Text:
    """A text and its mentions: (first character, one past the last, mention)."""

    text: str
    mentions: tuple[tuple[int, int, Mention], ...]

    def annotations(self) -> dict[str, str]:
        """GQA's form over `text.split()`: "a" for one token, "a:b" for several, 0-based, end exclusive."""
        spans = {}
        for start, end, mention in self.mentions:
            first, count = len(self.text[:start].split()), len(self.text[start:end].split())
            spans[str(first) if count == 1 else f"{first}:{first + count}"] = str(mention.thing)
        return spans


def compose(*parts: str | Mention) -> Text:
    """Join the parts; punctuation that follows a mention sticks to its last token, as in GQA."""
    text, mentions = "", []
    for part in parts:
        words = part.words if isinstance(part, Mention) else part
        if isinstance(part, Mention):
            mentions.append((len(text), len(text) + len(words), part))
        text += words
    return Text(text, tuple(mentions))


@dataclass(frozen=True)
class Reference:
    """A way to refer to a thing: "the <values> <noun>". filters: (kind, value), in spoken order."""

    thing: Thing
    filters: tuple[tuple[str, str], ...]
    noun: str

    @property
    def words(self) -> str:
        return " ".join([*(value for _, value in self.filters), self.noun])

    @property
    def mention(self) -> Mention:
        return Mention(self.words, self.thing.id)


SPOKEN = ("size", "color", "material")  # "the large red metal ball"


def references(scene: Scene, thing: Thing, without: str = "", noun: str | None = None) -> list[Reference]:
    """Ways to refer to this thing alone by at most two attributes, `without` not among them.

    noun: instead of the name ("object"); the name then tells nothing.
    """
    kinds = [kind for kind in SPOKEN if kind in scene.kinds and kind != without]
    rivals = [other for other in scene.things if other is not thing and (noun or other.name == thing.name)]
    found = []
    for count in range(3):
        for chosen in combinations(kinds, count):
            filters = tuple((kind, getattr(thing, kind)) for kind in chosen)
            if all(any(getattr(rival, kind) != value for kind, value in filters) for rival in rivals):
                found.append(Reference(thing, filters, noun or thing.name))
    return found


def refer(
    random: np.random.Generator, scene: Scene, thing: Thing, without: str = "", noun: str | None = None
) -> Reference | None:
    """One of the references, a short one where there is one."""
    found = references(scene, thing, without, noun)
    short = [reference for reference in found if len(reference.filters) <= 1]
    choices = short or found
    return choices[int(random.integers(len(choices)))] if choices else None
