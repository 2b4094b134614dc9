"""Words of a text, and when two texts say the same."""

import re
from functools import lru_cache

WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
ARTICLES = frozenset(("a", "an", "the"))
OPENINGS = frozenset(("yes", "no"))  # "No, the ball is red." says what "The ball is red." says

PLURALS = {"men": "man", "women": "woman", "people": "person", "children": "child", "sheep": "sheep"}
PLURALS |= {"mice": "mouse", "geese": "goose", "feet": "foot", "teeth": "tooth", "knives": "knife"}


def words(text: str) -> list[str]:
    """Its words in lower case, without punctuation."""
    return WORD.findall(text.lower())


@lru_cache(maxsize=1 << 16)  # a balanced data set repeats its sentences
def plain(text: str) -> str:
    """Equal for texts that differ in case, articles, punctuation, white space or a leading yes or no."""
    found = words(text)
    start = 1 if len(found) > 1 and found[0] in OPENINGS and _is_opening(text) else 0
    return " ".join(word for word in found[start:] if word not in ARTICLES)


def _is_opening(text: str) -> bool:
    """A comma follows the first word: "No, it is red." but not "No ball is red."."""
    first = WORD.search(text)
    return first is not None and text[first.end() :].lstrip().startswith(",")


@lru_cache(maxsize=1 << 14)
def singular(noun: str) -> str:
    """The singular of a noun's last word, by rule; what is no plural comes back changed or not."""
    head, _, word = noun.rpartition(" ")
    if word in PLURALS:
        one = PLURALS[word]
    elif word.endswith("ies") and len(word) > 4:
        one = word[:-3] + "y"
    elif word.endswith(("ches", "shes", "xes", "sses")):
        one = word[:-2]
    else:
        one = word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) else word
    return f"{head} {one}" if head else one
