"""Another word for a thing in a text, where that leaves its answer, its boxes and their attributes true.

Only the last words of an entity span are exchanged, for what the object vocabulary calls interchangeable:
"the red couch" becomes "the red sofa". A thing keeps its word where it is the answer, where another word for
it stands elsewhere in the text, and where its name is part of a longer one ("dirt bike"). So it does beside
the name of a wider or narrower thing: "Is the phone a cell phone?" is about words.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct, structs
from tokenizers import Tokenizer

from contract import plain_yaml
from contract.errors import ParamsError
from contract.files import sha256_file
from contract.params import convert
from contract.record import Text
from contract.seeds import rng
from training.batching.tokenising import tokenised
from training.config import Augment

ARTICLE = re.compile(r"\b(a|an)\s+\Z", re.IGNORECASE)
VOWELS = "aeiou"
PLURAL = "(?:e?s)?"

Group = tuple[str, ...]  # words for one thing, in lower case
Place = tuple[int, int]  # characters [start, end) of a text


class Thing(Struct):
    """An entry of the vocabulary: other and narrower names."""

    same: list[str] = []
    kinds: list[str] = []


class Vocabulary(Struct):
    """The file of the object vocabulary. also_: words that are more than nouns; in a span they are nouns."""

    objects: dict[str, Thing]
    interchangeable: list[list[str]]
    also_adjectives: list[str] = []
    also_verbs: list[str] = []

    def names(self) -> set[str]:
        """Every name of a thing."""
        listed = {name for thing in self.objects.values() for name in (*thing.same, *thing.kinds)}
        return {name.lower() for name in {*listed, *self.objects}}

    def line(self, words: Iterable[str]) -> set[str]:
        """These words for a thing, and every name of what is wider or narrower than it."""
        named = {name: {name, *thing.same} for name, thing in self.objects.items()}
        its_own = {name for name, names in named.items() if not names.isdisjoint(words)} | set(words)
        narrower = {name: set(thing.kinds) for name, thing in self.objects.items()}
        wider = {kind: {name for name, kinds in narrower.items() if kind in kinds} for kind in self.names()}
        found = _reached(its_own, wider) | _reached(its_own, narrower)
        return {name.lower() for one in found for name in named.get(one, {one})} | set(words)


def _reached(names: set[str], steps: Mapping[str, set[str]]) -> set[str]:
    """These names and whatever steps lead to from one to the next."""
    found, fresh = set(names), set(names)
    while fresh:
        fresh = {after for name in fresh for after in steps.get(name, ())} - found
        found |= fresh
    return found


class Rewording:
    """What a stream makes of each text, in tokens of this tokenizer."""

    def __init__(self, words: "Synonyms", tokenizer: Tokenizer) -> None:
        self._words, self._tokenizer = words, tokenizer

    def shown(self, text: Text, key: str, epoch: int) -> Text:
        """The text of a picture in an epoch."""
        return self._in_tokens(self._words.exchanged(text, key, epoch), text)

    def plain(self, text: Text) -> Text:
        """The same for texts that differ in nothing but which word of several they have for a thing."""
        return self._in_tokens(self._words.plain(text), text)

    def _in_tokens(self, other: Text, text: Text) -> Text:
        return text if other is text else tokenised(other, self._tokenizer)


def change(settings: Augment, tokenizer: Path, seed: int) -> Rewording | None:
    """None where no thing gets another word."""
    if not settings.synonyms:
        return None
    words = Synonyms(load(Path(settings.vocabulary)), settings.synonyms, seed)
    return Rewording(words, Tokenizer.from_file(str(tokenizer)))


def fingerprint(settings: Augment) -> str:
    """Of the vocabulary's file; "" where no thing gets another word."""
    return sha256_file(Path(settings.vocabulary)) if settings.synonyms else ""


def load(path: Path) -> Vocabulary:
    """ParamsError where the file is no vocabulary."""
    if not path.is_file():
        raise ParamsError("train.augment.vocabulary", "no such file", found=str(path))
    return convert(plain_yaml.read(path), Vocabulary, str(path))


class Synonyms:
    """Texts → texts with other words. share: of the things that get one; seed: of the run."""

    def __init__(self, vocabulary: Vocabulary, share: float, seed: int) -> None:
        groups = [tuple(word.lower() for word in group) for group in vocabulary.interchangeable]
        self._group = {word: group for group in groups for word in group}
        self._share, self._seed = share, seed
        self._ends = re.compile(rf"\b{_any_of(vocabulary.names() | set(self._group))}\Z", re.IGNORECASE)
        self._words = re.compile(rf"\b{_any_of(self._group)}\b", re.IGNORECASE)
        self._line = {
            group: re.compile(rf"\b{_any_of(vocabulary.line(group))}{PLURAL}\b", re.IGNORECASE)
            for group in groups
        }

    def exchanged(self, text: Text, key: str, epoch: int) -> Text:
        """The text of a picture in an epoch: other `text` and `span_chars`, the tokens still the old ones."""
        generator = rng(self._seed, "synonyms", epoch, key, text.id)
        words: dict[Place, str] = {}
        for word, places in self._named(text).items():
            others = [other for other in self._group[word] if other != word and _fits(other, text, places)]
            if others and generator.random() < self._share:
                words |= dict.fromkeys(places, others[generator.integers(len(others))])
        return _replaced(text, words) if words else text

    def plain(self, text: Text) -> Text:
        """The text with the first word of every group, in a span or not; the tokens still the old ones."""
        found = {match.span(): match[0] for match in self._words.finditer(text.text)}
        words = {place: self._group[word.lower()][0] for place, word in found.items() if _whole(place, text)}
        other = {place: word for place, word in words.items() if word != found[place]}
        return _replaced(text, other) if other else text

    def _named(self, text: Text) -> dict[str, list[Place]]:
        """Word → where the text names a thing by it, of the words that may be exchanged."""
        found: dict[str, set[Place]] = defaultdict(set)
        for start, end in text.span_chars:
            named = self._ends.search(text.text, start, end)
            if named and named[0].lower() in self._group:
                found[named[0].lower()].add(named.span())
        return {word: sorted(places) for word, places in found.items() if self._alone(word, places, text)}

    def _alone(self, word: str, places: set[Place], text: Text) -> bool:
        """Whether nothing of the thing's line is in the answer, or stands anywhere but in these places."""
        line = self._line[self._group[word]]
        said = {match.span() for match in line.finditer(text.text)}
        return said == places and not line.search(text.answer or "")


def _any_of(words: Iterable[str]) -> str:
    """A pattern of any of them, the longest that fits."""
    longest_first = sorted(words, key=lambda word: (-len(word), word))
    return f"({'|'.join(map(re.escape, longest_first))})"


def _whole(place: Place, text: Text) -> bool:
    """Whether every span holds all of the place or nothing."""
    begin, after = place
    return all(
        after <= start or end <= begin or (start <= begin and after <= end) for start, end in text.span_chars
    )


def _fits(word: str, text: Text, places: list[Place]) -> bool:
    """Whether it goes with the article before each place, if one stands there."""
    before = ((text.text[:start], text.text[start]) for start, _ in places)
    return all(
        (word[0] in VOWELS) == (first.lower() in VOWELS) for part, first in before if ARTICLE.search(part)
    )


def _replaced(text: Text, words: dict[Place, str]) -> Text:
    """The places' characters exchanged, and every span moved with what it covers."""
    content, spans = text.text, text.span_chars
    for (begin, after), word in sorted(words.items(), reverse=True):
        grown = len(word) - (after - begin)
        content = content[:begin] + word + content[after:]
        spans = [(start + grown * (start >= after), end + grown * (end >= after)) for start, end in spans]
    return structs.replace(text, text=content, span_chars=spans)
