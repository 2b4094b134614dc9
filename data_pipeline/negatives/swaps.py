"""Texts with one word changed so that the annotations make them false of their picture.

A proposal changes an attribute, a name, a number or a side. It is kept only where the changed sentence,
read anew, is false (truth.py); where the annotations do not say, it is left out.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from contract.record import Kind
from contract.seeds import seed64
from data_pipeline.negatives import families
from data_pipeline.negatives.claims import NUMBERS, Claims, Word, read
from data_pipeline.negatives.scene import Box, Scene, overlap
from data_pipeline.negatives.truth import truth
from data_pipeline.negatives.wording import plain

ROLES = ("statement", "caption", "phrase")  # a question is never false of a picture, nor is an edit
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
OPPOSITE |= dict.fromkeys(("under", "beneath", "underneath"), "above")
SIDES = ("left", "right")  # the others are relations: a mirror does not change them
MORE = {word: list(NUMBERS)[number + 1 :] for number, word in enumerate(NUMBERS)}
TRIES = 4  # other words for one place in the text
VOWELS = "aeiou"


@dataclass(frozen=True)
class Words:
    """The words of a dataset, each list sorted: names of its regions, and their attributes' values."""

    names: Sequence[str]
    values: Sequence[str]

    @cached_property
    def nouns(self) -> frozenset[str]:
        """The names, for reading; equal ones are one object, which a cache compares at no cost."""
        return _the(frozenset(self.names))


class Swap(NamedTuple):
    """A changed text that is false."""

    text: str
    kind: Kind


class Place(NamedTuple):
    """A word of the text, and what may stand there instead."""

    kind: Kind
    word: Word
    others: Sequence[str]
    phrase_of_one: bool = False  # the name in a phrase that speaks of one thing only


def swaps(
    text: str, scene: Scene, words: Words, most: int, *, about: Box | None, seed: int, name: str
) -> tuple[list[Swap], Counter[str]]:
    """At most `most` changed texts, one per changed word, and how many proposals of each kind met which end.

    about: the box that a phrase describes. seed, name: choose among equals; name: the text's id.
    Ends: "<kind>/kept", "/unknown" (not annotated), "/true" (as good as the original); "contradicted"
    where the annotations deny the text itself, which then gets none.
    """
    claims = read(text, words.nouns)
    if truth(claims, scene, about) is False:
        return [], Counter(contradicted=1)
    kept: list[Swap] = []
    ends: Counter[str] = Counter()
    changed: set[int] = set()
    for place in _places(claims, words, seed, name):
        if len(kept) == most:
            break
        if place.word.start in changed:  # "both are red" says it of two things
            continue
        changed.add(place.word.start)
        found = _first_false(text, place, scene, words.nouns, about, ends)
        if found is not None:
            kept.append(found)
    return kept, ends


def _first_false(
    text: str, place: Place, scene: Scene, nouns: frozenset[str], about: Box | None, ends: Counter[str]
) -> Swap | None:
    for other in place.others[:TRIES]:
        changed = replace(text, place.word, other)
        verdict = truth(read(changed, nouns), scene, about)
        if verdict is None and about and place.phrase_of_one and _is_not(other, about, scene):
            verdict = False
        end = {False: "kept", True: "true", None: "unknown"}[verdict]
        ends[f"{place.kind}/{end}"] += 1
        if verdict is False and plain(changed) != plain(text):
            return Swap(changed, place.kind)
    return None


def _is_not(name: str, about: Box, scene: Scene) -> bool:
    """Whether a region whose thing bears an excluding name shows none of this name besides."""
    return not any(
        families.may_be_one(thing.name, name) and overlap(thing.box, about) for thing in scene.things
    )


def _places(claims: Claims, words: Words, seed: int, name: str) -> Iterator[Place]:
    """The sides first, which no attribute tells, then numbers, attributes and names."""
    for side in claims.sides:
        kind: Kind = "side" if side.word.text in SIDES else "relation"
        yield Place(kind, side.word, [OPPOSITE[side.word.text]])
    alone = len(claims.mentions) == 1
    for mention in claims.mentions:
        if mention.number is not None:
            yield Place("number", mention.number, MORE[mention.number.text])
        for value in mention.values:
            others = families.other_values(value.text, words.values)
            yield Place("attribute", value, _turned(others, seed, name, value.start))
        if not mention.plural:
            others = families.other_names(mention.name, words.names)
            yield Place("object", mention.noun, _turned(others, seed, name, mention.noun.start), alone)


@lru_cache
def _the(nouns: frozenset[str]) -> frozenset[str]:
    return nouns


def _turned(others: Sequence[str], seed: int, name: str, start: int) -> Sequence[str]:
    """The list, begun anywhere: every other word has the same chance to come first."""
    first = seed64(seed, "swap", name, start) % max(1, len(others))
    return [*others[first:], *others[:first]]


def replace(text: str, word: Word, other: str) -> str:
    """The text with another word there, in the case of the one that goes, after "a" or "an" as it needs."""
    before, old, after = text[: word.start], text[word.start : word.end], text[word.end :]
    return _with_article(before, other) + _in_case(other, old) + after


def _in_case(other: str, old: str) -> str:
    if len(old) > 1 and old.isupper():
        return other.upper()
    return other[0].upper() + other[1:] if old[0].isupper() else other


def _with_article(before: str, word: str) -> str:
    article = before.rstrip()
    if article.lower().split()[-1:] not in (["a"], ["an"]):
        return before
    a = article[: -len(article.split()[-1])] + article.split()[-1][0]
    return a + ("n" if word[0].lower() in VOWELS else "") + before[len(article) :]
