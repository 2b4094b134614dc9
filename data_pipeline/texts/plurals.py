"""The plurals of English nouns, as far as captions need them."""

import re

IRREGULAR = {
    "bookshelf": ["bookshelves"],
    "calf": ["calves"],
    "child": ["children"],
    "foot": ["feet"],
    "goose": ["geese"],
    "human": ["humans"],
    "knife": ["knives"],
    "leaf": ["leaves"],
    "loaf": ["loaves"],
    "mouse": ["mice"],
    "ox": ["oxen"],
    "person": ["people", "persons"],
    "scarf": ["scarves", "scarfs"],
    "shelf": ["shelves"],
    "tooth": ["teeth"],
    "wolf": ["wolves"],
}
UNCHANGED = re.compile(
    "bison|broccoli|cattle|clownfish|deer|eyeglasses|fish|glasses|goggles|goldfish|jeans|jellyfish|leggings|"
    "luggage|moose|pajamas|pants|pyjamas|reindeer|scissors|sheep|shorts|skis|slacks|spectacles|sunglasses|"
    "trousers"
)
HISSING = re.compile(r"(s|x|z|ch|sh)$")
CONSONANT_Y = re.compile(r"(?<=[^aeiou])y$")


def plurals(noun: str) -> list[str]:
    """The plural forms of a noun, or of a compound by its last word; none where there is no other form."""
    before, space, last = noun.rpartition(" ")
    return [before + space + form for form in _of_word(last)]


def _of_word(word: str) -> list[str]:
    if UNCHANGED.fullmatch(word):
        return []
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word.endswith("man"):
        return [word.removesuffix("man") + "men"]
    if HISSING.search(word):
        return [word + "es"]
    if CONSONANT_Y.search(word):
        return [CONSONANT_Y.sub("ies", word)]
    return [word + "s", word + "es"] if word.endswith("o") else [word + "s"]
