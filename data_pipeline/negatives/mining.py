"""Negatives of one dataset and split: first what takes all its pictures and texts, then a task per shard."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from contract.manifest import Certificate
from contract.params import NegativesParams, TextSelection
from contract.record import Near
from contract.seeds import rng
from data_pipeline.negatives import image_sets, picture_column, text_neighbours, text_vectors
from data_pipeline.negatives.image_sets import Edits
from data_pipeline.negatives.margins import Margins, wanted
from data_pipeline.negatives.neighbours import NONE, Found, Rows, Scores, Vectors, nothing
from data_pipeline.negatives.picture_column import Column
from data_pipeline.negatives.search import search
from data_pipeline.negatives.shard_task import Done, Task
from data_pipeline.negatives.statistics import (
    Example,
    NearExample,
    Part,
    Pictures,
    Texts,
    by_kind,
    histogram,
)
from data_pipeline.negatives.swaps import ROLES
from data_pipeline.negatives.text_neighbours import Sentences
from data_pipeline.negatives.text_tables import Tables
from data_pipeline.negatives.text_vectors import TextEncoder

DRAWN = 2000  # random pairs of a dataset and split that the mined ones are held against
SHOWN = 3  # pictures, and texts of each role, that the report shows of a dataset and split


@dataclass(frozen=True)
class Place:
    """A dataset and split, its shards (empty ones too) and the folder they are written to."""

    dataset: str
    split: str
    shards: Sequence[str]
    folder: Path
    seed: int

    @property
    def name(self) -> str:
        """As the manifest's `searches` name it."""
        return f"{self.dataset}/{self.split}"

    def random(self, purpose: str) -> np.random.Generator:
        """A generator for one purpose."""
        return rng(self.seed, "negatives", self.name, purpose)


@dataclass(frozen=True)
class MinedPictures:
    """Key → neighbours of each picture, and what the report says of them."""

    near: dict[str, Near]
    facts: Pictures
    certificate: Certificate


@dataclass(frozen=True)
class MinedTexts:
    """Neighbours of the texts, and random ones beside. drawn: [T] a row of the texts, or NONE. weights: [U]
    of the different texts, as `text_neighbours.weights` gives them. certificates: as in the manifest.
    """

    sentences: Sentences
    found: Found
    weights: Scores
    certificates: dict[str, Certificate]
    drawn: Rows
    chances: Scores
    sampled: int
    known_true: int
    edits: Edits
    given: int
    margins: Margins | None


def mine_pictures(place: Place, column: Column, settings: NegativesParams) -> MinedPictures:
    """Nearest others of the pictures that have features."""
    present = np.flatnonzero(column.present)
    vectors_ND, wanted = column.vectors[present], settings.pictures.range_max
    what = f"pictures of {place.name}"
    found, certificate = search(what, vectors_ND, column.groups[present], wanted, settings)
    random = place.random("pictures")
    near, passed = picture_column.near(column, found, settings.pictures, random)
    pairs_2P = random.integers(0, max(1, len(present)), (2, DRAWN * bool(len(present))))
    first, second = vectors_ND[pairs_2P].astype(np.float64)
    facts = Pictures(
        pictures=len(column.keys),
        absent=len(column.keys) - len(present),
        mined=histogram([score for one in near.values() for score in one.score]),
        random=histogram(np.vecdot(first, second)),
        passed=dict(passed),
    )
    return MinedPictures(near, facts, certificate)


def mine_texts(
    place: Place,
    column: Column,
    tables: Tables,
    encoder: TextEncoder,
    settings: NegativesParams,
    workers: int,
) -> MinedTexts:
    """Nearest other texts, random ones, and the image sets of the edits."""
    here = tables.texts.filter(split=place.split)
    asked = here.filter(pl.col("answer").is_not_null(), role="question")
    sentences = text_neighbours.sentences(here.filter(pl.col("role").is_in(ROLES)), asked)
    what = f"texts of {place.name}"
    vectors_UD = text_vectors.vectors(encoder, sentences.different, workers, what)
    found, certificates = _neighbours(place, vectors_UD, sentences.of_role, settings)
    random, count = place.random("draws"), len(sentences.said)
    sampled = np.sort(random.permutation(count)[:DRAWN])
    rows, chances, known = text_neighbours.draws(sentences, vectors_UD, sampled, random)
    drawn = np.full(count, NONE)
    drawn[sampled[~known]] = rows[~known]
    return MinedTexts(
        sentences=sentences,
        found=found,
        weights=text_neighbours.weights(sentences, found),
        certificates=certificates,
        drawn=drawn,
        chances=chances,
        sampled=len(sampled),
        known_true=int(known.sum()),
        edits=image_sets.members(here.filter(role="edit"), column, tables.keys),
        given=int(here["negatives"].list.len().sum()),
        margins=_margins(column, sentences, vectors_UD, settings.text),
    )


def _neighbours(
    place: Place, vectors_UD: Vectors, of_role: dict[str, Rows], settings: NegativesParams
) -> tuple[Found, dict[str, Certificate]]:
    """Of each of the different texts among those of its role, and how each role was searched."""
    found, certificates = nothing(len(vectors_UD), settings.text.range_max), {}
    for role, rows in (of_role or {"": np.arange(0)}).items():
        name = f"{place.name}/texts" + f"/{role}" * (len(of_role) > 1)
        alone, wanted = np.arange(len(rows)), settings.text.range_max
        near, certificates[name] = search(name, vectors_UD[rows], alone, wanted, settings)
        found.rows[rows] = np.append(rows, NONE)[near.rows]  # the last for NONE, which is -1
        found.cosines[rows] = near.cosines
    return found, certificates


def _margins(
    column: Column, sentences: Sentences, vectors_UD: Vectors, settings: TextSelection
) -> Margins | None:
    """The margins with the vectors that they compare, if one is set."""
    if not wanted(settings):
        return None
    picture_of = np.searchsorted(np.array(column.keys), sentences.table["key"].to_numpy())
    limits = settings.absolute_margin, settings.relative_margin
    return Margins(*limits, column.vectors, column.present, vectors_UD, picture_of)


def tasks(
    place: Place,
    column: Column,
    tables: Tables,
    pictures: MinedPictures,
    texts: MinedTexts,
    settings: NegativesParams,
) -> tuple[list[Task], Counter[str]]:
    """A task per shard, and how many candidates the filters took before them."""
    shard_of = dict(zip(column.keys, column.shards, strict=True))
    shown = _shown(texts.sentences.table, place.random("shown"))
    table, counts, found = texts.sentences.table, Counter[str](), []
    for shard in place.shards:
        anchors = np.flatnonzero((table["shard"] == shard).to_numpy())
        random = place.random(f"candidates of {shard}")
        candidates, passed = text_neighbours.candidates(
            texts.sentences, texts.found, anchors, settings.text, random, texts.weights, texts.margins
        )
        counts += passed
        drawn = texts.drawn[anchors]
        others = np.unique(np.concatenate([candidates.rows.ravel(), drawn, [NONE]]))[1:]
        task = Task(
            path=place.folder / f"{shard}.tar",
            dataset=place.dataset,
            split=place.split,
            pictures={key: pictures.near[key] for key in column.keys if shard_of[key] == shard},
            anchors=table[anchors].drop("tokens"),
            candidates=candidates.among(others),
            others=table.select("text", "key", "content", "tokens", "marks")[others],
            drawn=text_neighbours.among(others, drawn),
            regions=tables.regions.filter(shard=shard),
            edits={text: edit for text, edit in texts.edits.items() if shard_of[edit[0]] == shard},
            words=tables.words,
            exhaustive=tables.exhaustive,
            incomplete=tables.incomplete,
            settings=settings.text,
            seed=place.seed,
            tokenizer=Path("spans", place.dataset, "tokenizer.json"),
            shown=shown,
        )
        found.append(task)
    return found, counts


def _shown(table: pl.DataFrame, random: np.random.Generator) -> frozenset[str]:
    """Texts for the report, of every role."""
    names: list[str] = []
    for (_,), part in sorted(table.partition_by("role", as_dict=True).items()):
        names += part["text"].gather(np.sort(random.permutation(len(part))[:SHOWN])).to_list()
    return frozenset(names)


def picture_examples(place: Place, pictures: MinedPictures) -> list[Example]:
    """Pictures for the report, with their negatives."""
    near = {key: found for key, found in pictures.near.items() if found.key}
    keys = sorted(near)
    drawn = np.sort(place.random("pictures shown").permutation(len(keys))[:SHOWN])
    return [
        Example(place.dataset, place.split, keys[row], "", "", "", _nearest("picture", near[keys[row]]))
        for row in drawn
    ]


def edit_examples(place: Place, texts: MinedTexts, tables: Tables) -> list[Example]:
    """Edits for the report, with the other pictures of their sets."""
    names = sorted(texts.edits)
    drawn = np.sort(place.random("edits shown").permutation(len(names))[:SHOWN])
    chosen = {names[row]: texts.edits[names[row]] for row in drawn}
    contents = dict(
        tables.texts.filter(pl.col("text").is_in(list(chosen))).select("text", "content").iter_rows()
    )
    return [
        Example(place.dataset, place.split, key, text, "edit", contents[text], _nearest("member", near))
        for text, (key, near) in chosen.items()
    ]


def _nearest(kind: str, near: Near) -> list[NearExample]:
    return [NearExample(kind, key, "", "", score) for key, score in zip(near.key, near.score, strict=True)]


def part(
    place: Place, pictures: MinedPictures, texts: MinedTexts, filters: Counter[str], done: Sequence[Done]
) -> Part:
    """What the report says of a dataset and split, once its shards are written."""
    counts = sum((one.counts for one in done), Counter[str]())
    scores = [score for one in done for score in one.scores]
    late = {name: counts[name] for name in ("overlapping_box", "true_of_picture")}
    facts = Texts(
        texts=len(texts.sentences.said),
        different=len(texts.sentences.different),
        near=len(scores),
        short=counts["short"],
        mined=histogram(scores),
        random=histogram(texts.chances),
        filters=dict(filters) | late,
        drawn=texts.sampled,
        drawn_true=texts.known_true + counts["drawn_true"],
        swaps=by_kind(counts),
        contradicted=counts["contradicted"],
        given=texts.given,
        edits=len(texts.edits),
        members=sum(len(near.key) for _, near in texts.edits.values()),
    )
    return Part(place.dataset, place.split, pictures.facts, facts)
