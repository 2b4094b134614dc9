"""Texts of other pictures that are like a text and do not hold of its picture, as far as the tables say.

Legend: T texts, U different texts ("plain" forms in a role), K neighbours of each, P (text, neighbour) pairs.

Texts of one role that say the same are one: neighbours are sought among the different ones of the role, for
a phrase among captions could be told by what it is; and one of the texts that say it is named, drawn at
random. A neighbour is known to be true of the anchor's picture where a text of the same group of pictures
says the same, in any role ("same_picture"), or where the neighbour answers a question somewhere, and the
anchor's group has that question with that answer ("same_answer").
"""

from collections import Counter

import numpy as np
import polars as pl
from msgspec import Struct
from numpy.typing import NDArray

from contract.params import TextSelection
from data_pipeline.negatives.margins import Margins, too_like
from data_pipeline.negatives.neighbours import NONE, Found, Rows, Scores, Vectors
from data_pipeline.negatives.selection import Mask, order
from data_pipeline.negatives.wording import plain

FULL = ".full"  # ends the id of a statement that is a question's full answer


class Sentences(Struct):
    """The texts of a dataset and split that get neighbours.

    table: text, key, role, content, … different: one content per plain form and role; said: [T] its number;
    of_role: those of each role, ascending; form: [U] equal for those that say the same. sayers: rows ordered
    by what they say, those of u between edges[u] and edges[u + 1]. true_pairs, fact_pairs: group · U + form,
    and group · F + fact, each sorted and once; facts of a form: facts[fact_edges[form] : …].
    """

    table: pl.DataFrame
    groups: Rows
    different: list[str]
    said: Rows
    of_role: dict[str, Rows]
    form: Rows
    sayers: Rows
    edges: Rows
    true_pairs: Rows
    facts: Rows
    fact_edges: Rows
    fact_pairs: Rows
    fact_count: int


class Candidates(Struct):
    """[A,K] rows of the sentences that may be negatives of each of A anchors, those to take first in front.

    count: [A] how many. scores: their cosines.
    """

    rows: Rows
    scores: Scores
    count: Rows

    def among(self, others: Rows) -> "Candidates":
        """The same, with rows of a table that holds only `others`, ascending."""
        return Candidates(among(others, self.rows), self.scores, self.count)


def among(others: Rows, rows: Rows) -> Rows:
    """Places of rows in `others`, which holds them all, ascending; NONE stays."""
    return np.where(rows == NONE, NONE, np.searchsorted(others, rows))


def sentences(texts: pl.DataFrame, questions: pl.DataFrame) -> Sentences:
    """texts: text, key, group, role, content. questions: text (id), group, content, answer."""
    forms = pl.Series("plain", [plain(content) for content in texts["content"]], pl.String)
    table = texts.with_columns(forms).filter(pl.col("plain") != "")
    table = table.with_columns(wording=pl.format("{}\n{}", "role", "plain"))
    first = table.group_by("wording", maintain_order=True).agg(pl.col("role", "plain", "content").first())
    said = _numbers(table["wording"], first["wording"])
    form = _numbers(first["plain"], first["plain"].unique(maintain_order=True))
    roles = first["role"].to_numpy()
    every = pl.concat([table["group"], questions["group"]]).unique(maintain_order=True)
    groups = _numbers(table["group"], every)
    facts = questions.select(
        "text", "group", fact=pl.format("{}\n{}", pl.col("content").str.to_lowercase(), "answer")
    )
    kinds = facts["fact"].unique(maintain_order=True)
    fact_of_text = table.select(question=pl.col("text").str.strip_suffix(FULL)).join(
        facts, left_on="question", right_on="text", how="left", maintain_order="left"
    )["fact"]
    known = fact_of_text.is_not_null().to_numpy()
    stated = np.unique(form[said[known]] * max(1, len(kinds)) + _numbers(fact_of_text.drop_nulls(), kinds))
    count = max(1, len(kinds))
    return Sentences(
        table=table.drop("plain", "wording", "group"),
        groups=groups,
        different=first["content"].to_list(),
        said=said,
        of_role={role: np.flatnonzero(roles == role) for role in sorted(set(roles))},
        form=form,
        sayers=np.argsort(said, kind="stable"),
        edges=np.searchsorted(np.sort(said), np.arange(len(first) + 1)),
        true_pairs=np.unique(groups * max(1, len(first)) + form[said]),
        facts=stated % count,
        fact_edges=np.searchsorted(stated // count, np.arange(len(first) + 1)),
        fact_pairs=np.unique(_numbers(facts["group"], every) * count + _numbers(facts["fact"], kinds)),
        fact_count=count,
    )


def _numbers(values: pl.Series, known: pl.Series) -> Rows:
    """Place of each value in `known`, which holds it once."""
    places = pl.DataFrame({"value": known, "place": np.arange(len(known))})
    joined = pl.DataFrame({"value": values}).join(places, on="value", how="left", maintain_order="left")
    return joined["place"].to_numpy().astype(np.int64)


def candidates(
    sentences: Sentences,
    found: Found,
    anchors_A: Rows,
    settings: TextSelection,
    random: np.random.Generator,
    weight_U: Scores,
    margins: Margins | None = None,
) -> tuple[Candidates, Counter[str]]:
    """What is left of the anchors' neighbours, and what the filters took. found: of the different texts.

    weight: see `weights`.
    """
    own_A = sentences.said[anchors_A]
    near_AK, scores_AK = found.rows[own_A], found.cosines[own_A]
    counts: Counter[str] = Counter()
    allowed_AK = near_AK != NONE
    filters = known_true(sentences, anchors_A, near_AK) | too_like(margins, anchors_A, own_A, near_AK)
    for name, out_AK in filters.items():
        counts[name] += int((allowed_AK & out_AK).sum())
        allowed_AK &= ~out_AK
    weight_AK = weight_U[np.maximum(near_AK, 0)]
    columns_AK, count_A, passed = order(scores_AK, allowed_AK, settings, random, weight_AK)
    ordered_AK = np.take_along_axis(near_AK, columns_AK, 1)
    left_AK = np.arange(near_AK.shape[1]) < count_A[:, None]
    rows_AK = np.where(left_AK, _sayer(sentences, np.maximum(ordered_AK, 0), random), NONE)
    return Candidates(rows_AK, np.take_along_axis(scores_AK, columns_AK, 1), count_A), counts + passed


def weights(sentences: Sentences, found: Found) -> Scores:
    """[U] how often a text is said, for each time that it is among the neighbours of one that is said.

    Drawn by these, a text is a neighbour about as often as it is true of a picture, so that its words alone
    do not tell which it is here.
    """
    times_U = np.diff(sentences.edges)
    there_UK = found.rows != NONE
    near = np.bincount(
        found.rows[there_UK], np.broadcast_to(times_U[:, None], found.rows.shape)[there_UK], len(times_U)
    )
    weight_U: Scores = times_U / np.maximum(near, 1)
    return weight_U


def known_true(sentences: Sentences, anchors_A: Rows, near_AK: Rows) -> dict[str, Mask]:
    """Reason → [A,K], of the different texts near each anchor; NONE is none of them."""
    groups_AK = np.broadcast_to(sentences.groups[anchors_A, None], near_AK.shape)
    there, form_AK = near_AK != NONE, sentences.form[np.maximum(near_AK, 0)]
    same = _holds(sentences.true_pairs, groups_AK * max(1, len(sentences.different)) + form_AK)
    return {"same_picture": same & there, "same_answer": _answered(sentences, groups_AK, form_AK) & there}


def _answered(sentences: Sentences, groups_AK: Rows, form_AK: Rows) -> Mask:
    """Whether a fact that the neighbour states is one of the anchor's group."""
    starts, ends = sentences.fact_edges[form_AK].ravel(), sentences.fact_edges[form_AK + 1].ravel()
    pair_P = np.repeat(np.arange(form_AK.size), ends - starts)
    within_P = np.arange(len(pair_P)) - np.repeat(np.cumsum(ends - starts) - (ends - starts), ends - starts)
    facts_P = sentences.facts[starts[pair_P] + within_P]
    hits_P = _holds(sentences.fact_pairs, groups_AK.ravel()[pair_P] * sentences.fact_count + facts_P)
    return np.bincount(pair_P[hits_P], minlength=form_AK.size).astype(np.bool_).reshape(form_AK.shape)


def _holds(sorted_values: Rows, asked: Rows) -> Mask:
    """Whether each asked value is among the sorted ones."""
    if not len(sorted_values):
        return np.zeros(asked.shape, np.bool_)
    at = np.minimum(np.searchsorted(sorted_values, asked), len(sorted_values) - 1)
    held: Mask = sorted_values[at] == asked
    return held


def _sayer(sentences: Sentences, different: Rows, random: np.random.Generator) -> Rows:
    """For each different text one of the texts that say it."""
    start, end = sentences.edges[different], sentences.edges[different + 1]
    drawn: NDArray[np.int64] = start + (random.random(different.shape) * (end - start)).astype(np.int64)
    return sentences.sayers[drawn]


def draws(
    sentences: Sentences, vectors_UD: Vectors, anchors_A: Rows, random: np.random.Generator
) -> tuple[Rows, Scores, Mask]:
    """A random text of its role for each anchor: its row, its cosine, and whether it is known true."""
    role_T = sentences.table["role"].to_numpy()
    rows_A = np.zeros(len(anchors_A), np.int64)
    for role in sentences.of_role:
        asked, there = role_T[anchors_A] == role, np.flatnonzero(role_T == role)
        rows_A[asked] = there[random.integers(0, len(there), asked.sum())]
    scores_A = np.vecdot(
        vectors_UD[sentences.said[rows_A]].astype(np.float64), vectors_UD[sentences.said[anchors_A]]
    )
    known = known_true(sentences, anchors_A, sentences.said[rows_A][:, None])
    return rows_A, scores_A, (known["same_picture"] | known["same_answer"])[:, 0]
