"""CIRR: recall over the whole split and within the image set, and the files that its server scores.

Liu et al., ICCV 2021; file form: Test-split_server.md of github.com/Cuberick-Orion/CIRR. The gallery is
every picture of the split, and the query's own reference never competes. A gallery with pictures left out
makes every recall better than it is, so a picture that is named and not there is an error.

Legend: Q queries, G gallery.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from contract.errors import MismatchError
from training.evaluation.metrics.retrieval import Flags, Scores, chance, ranks, recalls

KS, SUBSET_KS = (1, 5, 10, 50), (1, 2, 3)
SENT, SUBSET_SENT = 50, 3  # names per query that the server wants
VERSION = "rc2"
METRICS = ("recall", "recall_subset")  # as the server names them


class Query(Struct, frozen=True):
    """An edit. id: CIRR's pairid. members: of the image set, the reference or not. target: "" if hidden."""

    id: str
    reference: str
    members: Sequence[str]
    target: str = ""

    @property
    def others(self) -> list[str]:
        """The set without its reference."""
        return [name for name in self.members if name != self.reference]


def scores(queries: Sequence[Query], gallery: Sequence[str], scores_QG: Scores) -> dict[str, float]:
    """R@1/5/10/50, R_s@1/2/3 and their `mean`, (R@5 + R_s@1) / 2, all in [0, 1].

    gallery: the name of each column. MismatchError where the gallery lacks a picture, or a set its target.
    """
    columns = _columns(queries, gallery)
    _check_targets(queries)
    target_QG = _flags([[query.target] for query in queries], columns)
    reference_QG = _flags([[query.reference] for query in queries], columns)
    set_QG = _flags([query.others for query in queries], columns)
    found = {
        **recalls(ranks(scores_QG, target_QG, ~reference_QG), KS),
        **recalls(ranks(scores_QG, target_QG, set_QG), SUBSET_KS, "R_s"),
    }
    return {**found, "mean": (found["R@5"] + found["R_s@1"]) / 2}


def chances(queries: Sequence[Query], gallery: Sequence[str]) -> dict[str, float]:
    """The same of a random order: the reference does not compete, so R@K is K / (gallery − 1)."""
    one = np.ones(len(queries), np.int64)
    others = np.array([len(query.others) for query in queries])
    found = {
        **chance(one, one * (len(gallery) - 1), KS),
        **chance(one, others, SUBSET_KS, "R_s"),
    }
    return {**found, "mean": (found["R@5"] + found["R_s@1"]) / 2}


def submissions(
    queries: Sequence[Query], gallery: Sequence[str], scores_QG: Scores
) -> dict[str, dict[str, Any]]:
    """The two JSON objects for the server, by its names of the metrics: `recall` and `recall_subset`.

    Each query's best 50 of the gallery and best 3 of its set, without the reference; ties by name.
    """
    columns = _columns(queries, gallery)
    by_name = np.array(sorted(range(len(gallery)), key=gallery.__getitem__))
    sortable_QG = np.nan_to_num(scores_QG, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    first_QK = by_name[np.argsort(-sortable_QG[:, by_name], axis=1, kind="stable")[:, : SENT + 1]]
    whole, subset = {}, {}
    for query, row, first in zip(queries, sortable_QG, first_QK, strict=True):
        names = [gallery[column] for column in first]
        whole[query.id] = [name for name in names if name != query.reference][:SENT]
        subset[query.id] = sorted(query.others, key=lambda name: (-row[columns[name]], name))[:SUBSET_SENT]
    return {
        metric: {"version": VERSION, "metric": metric, **ranked}
        for metric, ranked in zip(METRICS, (whole, subset), strict=True)
    }


def _columns(queries: Sequence[Query], gallery: Sequence[str]) -> dict[str, int]:
    """Where each picture stands in the gallery, once it holds every picture that a query names, once."""
    columns = {name: column for column, name in enumerate(gallery)}
    named = {name for q in queries for name in (q.reference, *q.members, q.target) if name}
    missing = sorted(named - columns.keys())
    if missing or len(columns) < len(gallery):
        raise MismatchError(
            "CIRR gallery",
            "is not every picture of the split, once",
            found=f"{len(gallery) - len(columns)} repeated; {len(missing)} missing: {', '.join(missing[:3])}",
            expected=f"all {len(named)} pictures that the queries name",
            fix="give all shards of the split",
        )
    return columns


def _check_targets(queries: Sequence[Query]) -> None:
    wrong = [query.id for query in queries if query.target not in query.others]
    if wrong or not queries:
        raise MismatchError(
            "CIRR queries",
            "cannot be scored",
            found=f"{len(wrong)} of {len(queries)} without a target in their set: {', '.join(wrong[:3])}",
            fix="the targets of test1 are hidden: send its submission to the server",
        )


def _flags(names: Iterable[Iterable[str]], columns: dict[str, int]) -> Flags:
    """[Q, G] True where a query names a picture."""
    rows = [[columns[name] for name in some] for some in names]
    flags_QG = np.zeros((len(rows), len(columns)), np.bool_)
    for row, some in zip(flags_QG, rows, strict=True):
        row[some] = True
    return flags_QG
