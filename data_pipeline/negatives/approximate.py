"""Nearest neighbours of many vectors: FAISS looks into a few cells (IVF), and a sample says how well it saw.

Legend as in neighbours.py; P cells probed per query.

Cells and the choice among them come from one thread: a float32 product of many threads may round
otherwise, and a vector on the border of two cells would move. The scan inside the cells is per query, so
any number of threads finds the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from contract.errors import FuselineError
from contract.manifest import Certificate
from contract.seeds import rng
from data_pipeline.negatives import neighbours
from data_pipeline.negatives.neighbours import NONE, SPARE, Found, Rows, Vectors

CELLS = 4  # times the square root of the number of vectors
TRAINED_ON = 40  # vectors per cell
FIRST_PROBES = 8
SAMPLED = 512  # queries that are searched exactly as well: as many to choose P, others to certify it
EQUAL = 1e-6  # cosines closer than this are the same: which of equals is found does not matter
QUERIES = 8192  # of one call


class Cells:
    """The vectors, each in the cell of its nearest centre."""

    def __init__(self, vectors_ND: Vectors) -> None:
        count, width = vectors_ND.shape
        self.count = max(1, round(CELLS * count**0.5))
        self._vectors = vectors_ND
        self._centres = faiss.IndexFlatIP(width)
        self._index: Any = faiss.IndexIVFFlat(self._centres, width, self.count, faiss.METRIC_INNER_PRODUCT)
        self._index.cp.max_points_per_centroid = TRAINED_ON
        with _one_thread():
            self._index.train(vectors_ND)
            self._index.add(vectors_ND)

    def nearest(self, groups_N: Rows, wanted: int, queries_Q: Rows, probes: int) -> Found:
        """As neighbours.nearest, among the vectors of the `probes` cells nearest to each query.

        Where they hold too few, as when a large group fills them, every vector is asked.
        """
        found = neighbours.nothing(len(queries_Q), wanted)
        self._index.nprobe = probes
        for start in range(0, len(queries_Q), QUERIES):
            self._search(groups_N, queries_Q[start : start + QUERIES], found, start)
        short = np.flatnonzero(found.rows[:, -1] == NONE)
        whole = neighbours.nearest(self._vectors, groups_N, wanted, queries_Q[short])
        found.rows[short], found.cosines[short] = whole
        return found

    def _search(self, groups_N: Rows, queries_Q: Rows, into: Found, start: int) -> None:
        asked = self._vectors[queries_Q]
        with _one_thread():
            near_QP, cells_QP = self._centres.search(asked, self._index.nprobe)
        reach = into.rows.shape[1] + SPARE
        _, rows_QC = self._index.search_preassigned(asked, reach, cells_QP, near_QP)
        allowed_QC = (rows_QC != NONE) & (groups_N[rows_QC] != groups_N[queries_Q, None])
        for first in range(0, len(queries_Q), neighbours.BLOCK):
            part = slice(first, first + neighbours.BLOCK)
            at = start + first + np.arange(len(queries_Q[part]))
            neighbours.rank(self._vectors, queries_Q[part], rows_QC[part], allowed_QC[part], into, at)


def search(
    what: str, vectors_ND: Vectors, groups_N: Rows, wanted: int, probes: int, min_recall: float
) -> tuple[Found, Certificate]:
    """Neighbours of every row, and how many of the true ones they are, by a sample.

    probes: cells per query at most; as few are probed as a first sample needs. A second sample certifies:
    FuselineError where its recall is below min_recall.
    """
    cells = Cells(vectors_ND)
    tried, checked = samples(len(vectors_ND))
    used = _enough_probes(cells, vectors_ND, groups_N, wanted, tried, probes, (1 + min_recall) / 2)
    found = cells.nearest(groups_N, wanted, np.arange(len(vectors_ND)), used)
    truth = neighbours.nearest(vectors_ND, groups_N, wanted, checked)
    reached = recall(Found(found.rows[checked], found.cosines[checked]), truth)
    certificate = Certificate("ivf", len(vectors_ND), wanted, cells.count, used, len(checked), reached)
    if reached < min_recall:
        raise _missed(what, certificate, min_recall)
    return found, certificate


def samples(count: int) -> tuple[Rows, Rows]:
    """Two lists of rows that share none, each ascending, the same for the same count."""
    drawn = rng("recall", count).choice(count, min(count, 2 * SAMPLED), replace=False)
    half = len(drawn) // 2
    return np.sort(drawn[:half]), np.sort(drawn[half:])


def recall(found: Found, truth: Found) -> float:
    """Share of the true neighbours that were found; of equal cosines, any."""
    there_QK = truth.rows != NONE
    if not there_QK.any():
        return 1.0
    last_Q = np.where(there_QK, truth.cosines, np.inf).min(1, keepdims=True)
    hits: NDArray[np.bool_] = (found.rows != NONE) & (found.cosines >= last_Q - EQUAL)
    return float(np.minimum(hits.sum(1), there_QK.sum(1)).sum() / there_QK.sum())


def _enough_probes(
    cells: Cells, vectors_ND: Vectors, groups_N: Rows, wanted: int, tried_Q: Rows, most: int, goal: float
) -> int:
    """The first of 8, 16, 32, … that reaches the goal, or the most."""
    truth = neighbours.nearest(vectors_ND, groups_N, wanted, tried_Q)
    most = min(most, cells.count)
    probes = min(FIRST_PROBES, most)
    while probes < most and recall(cells.nearest(groups_N, wanted, tried_Q, probes), truth) < goal:
        probes = min(2 * probes, most)
    return probes


def _missed(what: str, certificate: Certificate, expected: float) -> FuselineError:
    return FuselineError(
        f"negatives, {what}",
        f"too few true neighbours were found with {certificate.probes} of {certificate.cells} cells",
        found=f"recall {certificate.recall:.4f} over {certificate.sampled} sampled queries",
        expected=f"at least {expected} (negatives.min_recall)",
        fix="raise negatives.probes, or negatives.exact_up_to to compare all",
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
