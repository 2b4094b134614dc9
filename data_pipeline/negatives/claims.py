"""What a sentence claims: mentions of things with their values and number, and who stands on which side.

A small grammar for the sentences of scene graphs and captions ("the large red ball", "the cube is made of
wood", "a cup to the left of the plate"). What it cannot read it leaves out and says so; a sentence with a
negation or an alternative claims nothing here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from data_pipeline.negatives import families
from data_pipeline.negatives.scene import RELATIONS
from data_pipeline.negatives.wording import ARTICLES, OPENINGS, PLURALS, WORD, singular


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
BE = ("is", "are")
# Words that take back, weaken or offer a choice.
DOUBT = _set(
    "no not none never nothing nobody neither nor without or either if unless except than like unlike seems "
    "maybe almost instead isn't aren't wasn't weren't doesn't don't isn’t aren’t can't other another"
)
# Words that may stand behind a noun and leave it one; before any other it may be half of a compound.
AFTER_NOUN = _set(
    "is are was were that which who with and in on at by near of to made left right above below under "
    "beneath underneath behind beside next standing sitting lying holding wearing has have inside around "
    "along against through from across between over while where together"
)
PICTURE = _set("picture image photo photograph")
GLUE = _set("is are the a an and there this it to both") | PICTURE
STARTS = {relation.split()[0]: relation for relation in RELATIONS}
LEADS: tuple[list[str], ...] = (
    [],
    ["is"],
    ["are"],
    ["to"],
    ["is", "to"],
    ["are", "to"],
)  # between a subject and its side
LONGEST_NAME = 3  # words
CLAUSE_ENDS = frozenset(",;:.!?")


class Word(NamedTuple):
    """A word in lower case. ends_clause: punctuation stands between it and the next."""

    text: str
    start: int
    end: int
    ends_clause: bool


@dataclass
class Mention:
    """A thing that a sentence speaks of. words: [first, past the last) of the sentence.

    definite: one thing, "the" before it, and nothing unread behind it that may tell which. restrictors:
    values that tell which thing is meant ("the red ball", "made of wood"). predicates: those said of it
    ("is red").
    """

    name: str
    noun: Word  # as it stands in the text; of several words, all of them
    plural: bool
    words: tuple[int, int]
    definite: bool = False
    restrictors: list[Word] = field(default_factory=list)
    predicates: list[Word] = field(default_factory=list)
    number: Word | None = None

    @property
    def values(self) -> list[Word]:
        """All of them."""
        return [*self.restrictors, *self.predicates]


class Side(NamedTuple):
    """subject and anchor: places in `mentions`. word: "left", "above", …"""

    subject: int
    relation: str
    anchor: int
    word: Word


@dataclass
class Claims:
    """All must hold. whole: the sentence says nothing else. doubtful: nothing of it can be judged."""

    mentions: list[Mention] = field(default_factory=list)
    sides: list[Side] = field(default_factory=list)
    whole: bool = True
    doubtful: bool = False


@lru_cache(maxsize=1 << 16)  # sentences repeat, changed ones too
def read(text: str, names: frozenset[str]) -> Claims:
    """The claims of a sentence, not to be changed. names: of things, singular, in lower case."""
    words = _words(text)
    if any(word.text in DOUBT for word in words):
        return Claims(whole=False, doubtful=True)
    return _Reader(words, names).read()


def _words(text: str) -> list[Word]:
    lower = text.lower()
    found = list(WORD.finditer(lower)) if len(lower) == len(text) else []  # "İ" becomes two: places move
    edges = [match.start() for match in found[1:]] + [len(text)] * bool(found)
    words = [
        Word(match[0], match.start(), match.end(), not CLAUSE_ENDS.isdisjoint(text[match.end() : edge]))
        for match, edge in zip(found, edges, strict=True)
    ]
    opens = len(words) > 1 and words[0].text in OPENINGS and words[0].ends_clause
    return words[1:] if opens else words


class _Reader:
    """One pass over the words, left to right."""

    def __init__(self, words: Sequence[Word], names: frozenset[str]) -> None:
        self._words, self._names, self._starts = words, names, _starts(names)
        self._claims = Claims()
        self._subjects: list[int] = []  # mentions that "is red" speaks of
        self._verb = False  # the clause has its verb
        self._read = [word.text in GLUE or self._in_picture(at) for at, word in enumerate(words)]
        self._side: tuple[int, str, Word, int] | None = (
            None  # subject, relation, word, where its anchor begins
        )

    def read(self) -> Claims:
        at = 0
        while at < len(self._words):
            past = self._mention(at) or self._relation(at) or self._verb_phrase(at) or at + 1
            if any(word.ends_clause for word in self._words[at:past]):
                self._subjects, self._verb = [], False
            at = past
        for mention in self._claims.mentions:
            mention.definite = mention.definite and self._reads_on(mention.words[1])
        inner_break = any(word.ends_clause for word in self._words[:-1])
        plural = any(mention.plural for mention in self._claims.mentions)
        self._claims.whole = (
            all(self._read) and bool(self._claims.mentions) and not inner_break and not plural
        )
        return self._claims

    def _mention(self, at: int) -> int | None:
        """number? value* noun → past it."""
        number = self._words[at] if self._words[at].text in NUMBERS else None
        first = at + (number is not None)
        noun = self._first_noun(first)
        if noun is None:
            return None
        begin, past, name, plural = noun
        whole = self._words[begin]._replace(end=self._words[past - 1].end)
        mention = Mention(
            name,
            whole,
            plural,
            words=(at, past),
            definite=not plural and self._texts(max(0, at - 1), 1) == ["the"],
            restrictors=list(self._words[first:begin]),
            number=number if plural else None,
        )
        self._consume(at, past)
        self._place(mention)
        return past

    def _first_noun(self, at: int) -> tuple[int, int, str, bool] | None:
        """(begin, past, name, plural) of the noun behind the values that begin here, if nothing else does."""
        while at < len(self._words):
            if found := self._noun(at):
                return at, *found
            word = self._words[at]
            if not families.is_value(word.text) or word.ends_clause:
                return None
            at += 1
        return None

    def _noun(self, at: int) -> tuple[int, str, bool] | None:
        """(past, name, plural) of the longest name that begins here and is no part of a compound."""
        start = self._words[at].text
        if start not in self._starts and singular(start) not in self._starts:
            return None
        for length in range(min(LONGEST_NAME, len(self._words) - at), 0, -1):
            words = self._words[at : at + length]
            if any(word.ends_clause for word in words[:-1]):
                continue
            written = " ".join(word.text for word in words)
            for name in dict.fromkeys((written, singular(written))):
                if name in self._names and self._ends_noun(at + length):
                    return at + length, name, name != written or written in PLURALS
        return None

    def _ends_noun(self, past: int) -> bool:
        return (
            past == len(self._words)
            or self._words[past - 1].ends_clause
            or self._words[past].text in AFTER_NOUN
        )

    def _place(self, mention: Mention) -> None:
        """Subject of its clause, one of several, or neither; and anchor of a side that waits for one."""
        mentions, number = self._claims.mentions, len(self._claims.mentions)
        between = self._between(mentions[-1].words[1], mention.words[0]) if mentions else []
        if self._verb and between[-1:] == ["and"]:  # a new clause
            self._subjects, self._verb = [number], False
        elif between == ["and"] and number - 1 not in self._subjects:  # joins which of those before?
            self._subjects, self._verb = [], True
        elif between == ["and"] or not (self._subjects or self._verb):
            self._subjects.append(number)
        mentions.append(mention)
        if self._side:
            subject, relation, word, begins = self._side
            if not self._between(begins, mention.words[0]):
                self._claims.sides.append(Side(subject, relation, number, word))
                self._consume(mentions[subject].words[1], begins)
            self._side = None

    def _between(self, first: int, past: int) -> list[str]:
        """The words of a stretch, articles left out."""
        return [word.text for word in self._words[first:past] if word.text not in ARTICLES]

    def _relation(self, at: int) -> int | None:
        """[is] [to the] left of, above, … right behind a mention."""
        relation = STARTS.get(self._words[at].text, "")
        length, mentions = len(relation.split()), self._claims.mentions
        if not length or " ".join(self._texts(at, length)) != relation:
            return None
        lead = self._between(mentions[-1].words[1], at) if mentions else ["?"]
        if lead in LEADS:
            self._side = (len(mentions) - 1, relation, self._words[at], at + length)
        return at + length

    def _verb_phrase(self, at: int) -> int | None:
        """is/are [both] [made of] value, or made of value behind a mention."""
        verb = self._words[at].text in BE
        self._verb = self._verb or verb
        after = at + verb
        made = self._texts(after, 2) == ["made", "of"]
        if not (verb or made):
            return None
        after += 2 * made
        value = self._words[after] if after < len(self._words) else None
        if value is None or not families.is_value(value.text) or not self._ends_noun(after + 1):
            return None
        owners = self._subjects if verb else self._beside(at)
        if not owners:
            return None
        for owner in owners:
            mention = self._claims.mentions[owner]
            (mention.predicates if verb else mention.restrictors).append(value)
        self._consume(at, after + 1)
        return after + 1

    def _in_picture(self, at: int) -> bool:
        """in [the/this] picture."""
        return self._texts(at, 1) == ["in"] and not PICTURE.isdisjoint(self._texts(at + 1, 2))

    def _reads_on(self, past: int) -> bool:
        """Whether all is read from a noun to the next verb or end of the clause."""
        for at in range(past, len(self._words)):
            if self._words[at - 1].ends_clause or self._words[at].text in BE:
                break
            if not self._read[at]:
                return False
        return True

    def _beside(self, at: int) -> list[int]:
        """The mention that ends here."""
        mentions = self._claims.mentions
        return [len(mentions) - 1] if mentions and mentions[-1].words[1] == at else []

    def _texts(self, at: int, count: int) -> list[str]:
        return [word.text for word in self._words[at : at + count]]

    def _consume(self, first: int, past: int) -> None:
        self._read[first:past] = [True] * (past - first)


@lru_cache
def _starts(names: frozenset[str]) -> frozenset[str]:
    """First words of the names."""
    return frozenset(name.split()[0] for name in names if name.split())
