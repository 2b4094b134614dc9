"""Another word for a thing in a text, where that leaves its answer, its boxes and their attributes true.

Only the last word or words of an entity span are exchanged, and only for what the object vocabulary calls the
same thing: "the red couch" becomes "the red sofa". A thing keeps its word where it is the answer, and a thing
that is named twice gets one word in both places.
"""

import re
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from msgspec import Struct, structs
from tokenizers import Tokenizer

from contract.errors import ParamsError
from contract.params import convert, read_yaml
from contract.record import Text
from contract.seeds import rng
from training.batching.plan import Change
from training.batching.tokenising import tokenised
from training.config import Augment

ARTICLE = re.compile(r"\b(a|an)\s+$", re.IGNORECASE)
VOWELS = "aeiou"

Group = tuple[str, ...]  # words for one thing, in lower case


class Thing(Struct):
    """An entry of the vocabulary. kinds: narrower names, which are no synonyms."""

    same: list[str] = []
    kinds: list[str] = []


class Vocabulary(Struct):
    """The file of the object vocabulary. also_: words that are more than nouns; in a span they are nouns."""

    objects: dict[str, Thing]
    also_adjectives: list[str] = []
    also_verbs: list[str] = []


class Place(Struct, frozen=True, order=True):
    """Characters [start, end) of a text, which name the thing of a group."""

    group: Group
    start: int
    end: int


def load(path: Path) -> list[Group]:
    """The words of every thing that has several. ParamsError where the file is no vocabulary."""
    if not path.is_file():
        raise ParamsError("train.augment.vocabulary", "no such file", found=str(path))
    objects = convert(read_yaml(path), Vocabulary, str(path)).objects
    return [(name.lower(), *map(str.lower, thing.same)) for name, thing in objects.items() if thing.same]


def change(settings: Augment, tokenizer: Path, seed: int) -> Change | None:
    """What a stream makes of each text; None where no thing gets another word."""
    if not settings.synonyms:
        return None
    words = Synonyms(load(Path(settings.vocabulary)), settings.synonyms, seed)
    known = Tokenizer.from_file(str(tokenizer))

    def changed(text: Text, key: str, epoch: int) -> Text:
        other = words.exchanged(text, key, epoch)
        return text if other is text else tokenised(other, known)

    return changed


class Synonyms:
    """Texts → texts with other words. share: of the things that get one; seed: of the run."""

    def __init__(self, groups: Iterable[Group], share: float, seed: int) -> None:
        self._group = {word: group for group in groups for word in group}
        self._share, self._seed = share, seed
        longest_first = sorted(self._group, key=len, reverse=True)
        self._ends = re.compile(rf"\b({'|'.join(map(re.escape, longest_first))})\Z", re.IGNORECASE)

    def exchanged(self, text: Text, key: str, epoch: int) -> Text:
        """The text of a picture in an epoch: other `text` and `span_chars`, the tokens still the old ones."""
        generator = rng(self._seed, "synonyms", epoch, key, text.id)
        words: dict[Place, str] = {}
        for group, named in groupby(sorted(self._places(text)), lambda place: place.group):
            places = list(named)
            fitting = [word for word in group if _fits(word, text, places)]
            if fitting and generator.random() < self._share:
                words |= dict.fromkeys(places, fitting[generator.integers(len(fitting))])
        return _replaced(text, words) if words else text

    def _places(self, text: Text) -> set[Place]:
        found = set()
        for start, end in text.span_chars:
            if named := self._ends.search(text.text, start, end):
                found.add(Place(self._group[named[0].lower()], *named.span()))
        return {place for place in found if (text.answer or "").lower() not in place.group}


def _fits(word: str, text: Text, places: Iterable[Place]) -> bool:
    """Whether it is another word in any of the places, and goes with the article before each."""
    written = [(text.text[place.start : place.end].lower(), text.text[: place.start]) for place in places]
    same_sound = all(
        (word[0] in VOWELS) == (old[0] in VOWELS) for old, before in written if ARTICLE.search(before)
    )
    return same_sound and any(old != word for old, _ in written)


def _replaced(text: Text, words: dict[Place, str]) -> Text:
    """The places' characters exchanged, and every span moved with what it covers."""
    content, spans = text.text, text.span_chars
    for place in sorted(words, key=lambda place: place.start, reverse=True):
        word = words[place]
        grown = len(word) - (place.end - place.start)
        content = content[: place.start] + word + content[place.end :]
        spans = [
            (start + grown * (start >= place.end), end + grown * (end >= place.end)) for start, end in spans
        ]
    return structs.replace(text, text=content, span_chars=spans)
