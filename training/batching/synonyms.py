"""Another word for a thing in a text, where that leaves its answer, its boxes and their attributes true.

Only the last words of an entity span are exchanged, for what the object vocabulary calls interchangeable:
"the red couch" becomes "the red sofa". A thing keeps its word where it is the answer, where another word for
it stands elsewhere in the text, and where its name is part of a longer one ("dirt bike").
"""

import re
from collections import defaultdict
from pathlib import Path

from msgspec import Struct, structs
from tokenizers import Tokenizer

from contract.errors import ParamsError
from contract.files import sha256_file
from contract.params import convert, read_yaml
from contract.record import Text
from contract.seeds import rng
from training.batching.plan import Change
from training.batching.tokenising import tokenised
from training.config import Augment

ARTICLE = re.compile(r"\b(a|an)\s+\Z", re.IGNORECASE)
VOWELS = "aeiou"

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


def fingerprint(settings: Augment) -> str:
    """Of the vocabulary's file; "" where no thing gets another word."""
    return sha256_file(Path(settings.vocabulary)) if settings.synonyms else ""


def load(path: Path) -> Vocabulary:
    """ParamsError where the file is no vocabulary."""
    if not path.is_file():
        raise ParamsError("train.augment.vocabulary", "no such file", found=str(path))
    return convert(read_yaml(path), Vocabulary, str(path))


class Synonyms:
    """Texts → texts with other words. share: of the things that get one; seed: of the run."""

    def __init__(self, vocabulary: Vocabulary, share: float, seed: int) -> None:
        groups = [tuple(word.lower() for word in group) for group in vocabulary.interchangeable]
        self._group = {word: group for group in groups for word in group}
        self._share, self._seed = share, seed
        longest_first = sorted(vocabulary.names() | set(self._group), key=len, reverse=True)
        self._ends = re.compile(rf"\b({'|'.join(map(re.escape, longest_first))})\Z", re.IGNORECASE)

    def exchanged(self, text: Text, key: str, epoch: int) -> Text:
        """The text of a picture in an epoch: other `text` and `span_chars`, the tokens still the old ones."""
        generator = rng(self._seed, "synonyms", epoch, key, text.id)
        words: dict[Place, str] = {}
        for word, places in self._named(text).items():
            others = [other for other in self._group[word] if other != word and _fits(other, text, places)]
            if others and generator.random() < self._share:
                words |= dict.fromkeys(places, others[generator.integers(len(others))])
        return _replaced(text, words) if words else text

    def _named(self, text: Text) -> dict[str, list[Place]]:
        """Word → where the text names a thing by it, of the words that may be exchanged."""
        found: dict[str, set[Place]] = defaultdict(set)
        for start, end in text.span_chars:
            named = self._ends.search(text.text, start, end)
            if named and named[0].lower() in self._group:
                found[named[0].lower()].add(named.span())
        return {word: sorted(places) for word, places in found.items() if self._alone(word, places, text)}

    def _alone(self, word: str, places: set[Place], text: Text) -> bool:
        """Whether no word for the thing is the answer, or stands anywhere but in these places."""
        group = "|".join(map(re.escape, self._group[word]))
        said = re.finditer(rf"\b({group})\b", text.text, re.IGNORECASE)
        answered = re.search(rf"\b({group})\b", text.answer or "", re.IGNORECASE)
        return not answered and {match.span() for match in said} == places


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
