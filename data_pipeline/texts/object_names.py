"""Names of things: their written forms, plurals too, and which name is a kind of which."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from contract import plain_yaml
from contract.params import Strict, convert
from data_pipeline.texts.plurals import plurals

FILE = Path(__file__).with_name("objects.yaml")
WORD = re.compile(r"[^\W_]+")
LONGEST = 4  # words in a name


class Thing(Strict, frozen=True):
    """An entry of objects.yaml."""

    same: list[str] = []
    kinds: list[str] = []


class Vocabulary(Strict, frozen=True):
    """objects.yaml. interchangeable is for training."""

    objects: dict[str, Thing]
    also_adjectives: list[str]
    also_verbs: list[str]
    interchangeable: list[list[str]] = []


@dataclass(frozen=True)
class ObjectNames:
    """forms: written form → name. wider: name → the name that it is a kind of. All as `form` gives them."""

    forms: Mapping[str, str]
    wider: Mapping[str, str]
    also_adjectives: frozenset[str]
    also_verbs: frozenset[str]

    @cached_property
    def reach(self) -> Mapping[str, int]:
        """First word of a form → how many words the longest form that begins with it has."""
        lengths = sorted((written.count(" ") + 1, written.partition(" ")[0]) for written in self.forms)
        return {first: length for length, first in lengths}

    def line(self, name: str) -> Iterator[str]:
        """The name itself, then ever wider ones."""
        while name:
            yield name
            name = self.wider.get(name, "")

    def extended(self, names: Iterable[str]) -> "ObjectNames":
        """With names that a dataset gives its regions; what the vocabulary knows stays as it is."""
        short = [form(name) for name in names if len(WORD.findall(name)) <= LONGEST]
        return replace(self, forms={**_forms({name: [] for name in short if name}), **self.forms})


def form(name: str) -> str:
    """Words in lower case with one space between: "T-shirt" → "t shirt"."""
    return " ".join(WORD.findall(name.lower()))


def load() -> ObjectNames:
    """The project's vocabulary."""
    content = convert(plain_yaml.read(FILE), Vocabulary, str(FILE))
    same = {form(name): [form(other) for other in thing.same] for name, thing in content.objects.items()}
    wider = {form(kind): form(name) for name, thing in content.objects.items() for kind in thing.kinds}
    return ObjectNames(
        _forms({kind: [] for kind in wider} | same),
        wider,
        frozenset(content.also_adjectives),
        frozenset(content.also_verbs),
    )


def _forms(same: Mapping[str, list[str]]) -> dict[str, str]:
    """Every written form → its name. A form that is a name itself, or said outright, is no plural."""
    said = {other: name for name, others in same.items() for other in (name, *others)}
    return {plural: said[word] for word in said for plural in plurals(word)} | said
