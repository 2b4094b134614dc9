"""Mentions of things in texts whose source marks no spans: the longest name at each word, no overlaps.

A name is whole words: no "car" in "carpet" or in "car-free", no "dog" in "hot dog". Case and plural do not
matter. What is also an adjective or a verb counts only where its neighbours say that it is a thing.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import polars as pl

from data_pipeline.texts.object_names import ObjectNames, form

PART = re.compile(r"(?P<word>[^\W_]+)|[^\w\s-]|_")  # a word, or a mark that no name reaches across
COMPOUND = re.compile(r"\w-\w")
ARTICLE = re.compile("a|an|the|one|this|that|another|each|every|his|her|its|their")
GOES_ON = re.compile(
    "(at|behind|beside|by|for|from|in|inside|is|near|next|of|on|over|that|to|under|which|with)?"
)
PRONOUN = re.compile("he|she|who|that")
PERSON = "person"
MENTION = {"start": pl.Int32, "end": pl.Int32, "name": pl.String}


class Mention(NamedTuple):
    """Characters [start, end) of a text that name a thing, and the name in the vocabulary."""

    start: int
    end: int
    name: str


class _Part(NamedTuple):
    start: int
    end: int
    word: str  # lower case; "" for a mark


def mentions(text: str, names: ObjectNames) -> list[Mention]:
    """The things that a text names, from left to right."""
    parts = [_Part(*part.span(), (part["word"] or "").lower()) for part in PART.finditer(text)]
    found: list[Mention] = []
    place = 0
    while place < len(parts):
        after = place + _longest(parts, place, names)
        if after > place and _is_thing(text, parts, place, after, names):
            name = names.forms[_spelled(parts[place:after])]
            found.append(Mention(parts[place].start, parts[after - 1].end, name))
        place = max(place + 1, after)
    return found


def _longest(parts: Sequence[_Part], place: int, names: ObjectNames) -> int:
    """How many parts the longest name takes that begins at `place`; 0 if none does."""
    most = min(len(parts) - place, names.reach.get(parts[place].word, 0))
    return next((n for n in range(most, 0, -1) if _spelled(parts[place : place + n]) in names.forms), 0)


def _spelled(parts: Sequence[_Part]) -> str:
    return " ".join(part.word for part in parts)


def _is_thing(text: str, parts: Sequence[_Part], first: int, after: int, names: ObjectNames) -> bool:
    """Whether the neighbours of parts [first, after) let them name a thing."""
    if _within_compound(text, parts[first].start, parts[after - 1].end):
        return False
    spelled, before, behind = _spelled(parts[first:after]), _word(parts, first - 1), _word(parts, after)
    if spelled in names.also_adjectives:
        return bool(ARTICLE.fullmatch(before) and GOES_ON.fullmatch(behind))
    return spelled not in names.also_verbs or not _acts(before, names)


def _within_compound(text: str, start: int, end: int) -> bool:
    """Whether a hyphen ties the characters to a word outside: "car" in "car-free"."""
    return any(COMPOUND.match(text, edge) for edge in (start - 2, end - 1) if edge >= 0)


def _word(parts: Sequence[_Part], place: int) -> str:
    return parts[place].word if 0 <= place < len(parts) else ""


def _acts(word: str, names: ObjectNames) -> bool:
    """Whether a verb may follow: after a person, or a word for one."""
    return bool(PRONOUN.fullmatch(word)) or PERSON in names.line(names.forms.get(word, ""))


def matched(
    texts: pl.DataFrame, entities: pl.DataFrame, regions: pl.DataFrame, names: ObjectNames
) -> pl.DataFrame:
    """Entities of the texts that have none, in their order: a row of `entities`' columns per mention.

    Each is linked to all regions of the picture that can go by its name, crowds apart; the dataset's own
    names of regions are known as well.
    """
    bare = texts.join(entities, on="text", how="anti", maintain_order="left")
    known = names.extended(regions["name"].unique().sort())
    found = [[mention._asdict() for mention in mentions(content, known)] for content in bare["content"]]
    named = bare.with_columns(pl.Series("mention", found, pl.List(pl.Struct(MENTION)))).explode("mention")
    placed = named.drop_nulls("mention").unnest("mention").with_row_index("mention")
    linked = placed.join(_links(placed, regions, known), on="mention", how="left", maintain_order="left")
    rows = linked.with_columns(
        span=pl.format("{}:{}", "start", "end"),
        name=pl.lit(None, pl.String),
        regions=pl.col("regions").fill_null([]),
        source=pl.lit("matched"),
    )
    return rows.select(entities.columns).cast(entities.schema)


def _links(placed: pl.DataFrame, regions: pl.DataFrame, names: ObjectNames) -> pl.DataFrame:
    """(mention, regions): the regions of its picture whose name may mean the same thing, in their order."""
    boxed = regions.filter(~pl.col("crowd"), pl.col("picture").is_in(placed["picture"].implode()))
    pairs = _alike(placed["name"].unique(), boxed["name"].unique(), names)
    alike = pl.DataFrame(sorted(pairs), {"name": pl.String, "label": pl.String}, orient="row")
    named = placed.select("mention", "picture", "name").join(alike, on="name")
    labelled = boxed.select("picture", "region", label="name").with_row_index("place")
    links = named.join(labelled, on=["picture", "label"]).sort("mention", "place")
    return links.group_by("mention", maintain_order=True).agg(regions="region")


def _alike(mentioned: Iterable[str], labels: Iterable[str], names: ObjectNames) -> set[tuple[str, str]]:
    """(name, label) of one thing: a "man" is labelled "person", and a "person" may be labelled "man"."""
    called = defaultdict(list)  # name → labels of just that
    under = defaultdict(list)  # name → labels of that and of its kinds
    for label in labels:
        name = names.forms.get(form(label), "")
        called[name].append(label)
        for wider in names.line(name):
            under[wider].append(label)
    narrower = {(name, label) for name in mentioned for label in under[name]}
    return narrower | {(name, label) for name in mentioned for up in names.line(name) for label in called[up]}
