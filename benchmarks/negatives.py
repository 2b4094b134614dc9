"""Neighbours of 100,000 vectors of 256 dimensions, top 32, beside FAISS alone; both searches, one run.

Exact is what the stage does by default at this size, and held against the goal; cells (IVF) is what it
does beyond `negatives.exact_up_to`, where one thread makes the cells so that they repeat. FAISS alone is
the same kind of index, trained in its own way, and nothing else: no groups, no order that repeats to the
bit, no certificate. Rounds alternate; the least time of each side counts.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import faiss
import numpy as np
from msgspec.structs import replace

from benchmarks import report
from benchmarks.report import Figure, figure
from contract.manifest import Certificate
from contract.params import NegativesParams
from contract.seeds import rng
from data_pipeline.negatives import neighbours
from data_pipeline.negatives.approximate import recall, samples
from data_pipeline.negatives.neighbours import Found, Rows, Vectors
from data_pipeline.negatives.search import search

T = TypeVar("T")
VECTORS, WIDTH, WANTED, CLUMPS, SPREAD = 100_000, 256, 32, 2000, 0.8
SETTINGS = NegativesParams("vit")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.negatives", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    vectors_ND = clumps(VECTORS)
    pairs_N = np.arange(VECTORS) // 2  # near-duplicates by twos, which are no neighbours
    cells = replace(SETTINGS, exact_up_to=0)
    figures = [
        *measured("exact", vectors_ND, pairs_N, SETTINGS, options.rounds),
        *measured("cells", vectors_ND, pairs_N, cells, options.rounds),
    ]
    report.write("negatives", figures)


def clumps(count: int) -> Vectors:
    """Vectors around some centres, as features are; without any clumps cells would be of no use."""
    random = rng("benchmark", "negatives")
    centres = random.normal(size=(CLUMPS, WIDTH))[random.integers(0, CLUMPS, count)]
    return neighbours.normalised((centres + SPREAD * random.normal(size=(count, WIDTH))).astype(np.float32))


def measured(
    name: str, vectors_ND: Vectors, groups_N: Rows, settings: NegativesParams, rounds: int
) -> list[Figure]:
    """Seconds of both sides, their ratio, and recall against brute force."""
    ours: list[float] = []
    alone: list[float] = []
    for _ in range(rounds):
        seconds, (found, certificate) = timed(lambda: search(name, vectors_ND, groups_N, WANTED, settings))
        ours.append(seconds)
        alone.append(timed(partial(faiss_alone, vectors_ND, certificate))[0])
    exact = certificate.method == "exact"
    against, goal = ("IndexFlatIP", "< 1.25") if exact else (f"IVF, {certificate.probes} probes", "")
    what = f"{name}, {len(vectors_ND):,} × {WIDTH}, top {WANTED}"
    return [
        figure(f"{what}, seconds", min(ours)),
        figure(f"{what}, FAISS alone, seconds", min(alone), against=against),
        figure(f"{what}, times FAISS alone", min(ours) / min(alone), goal, against),
        figure(f"{what}, recall", brute_recall(vectors_ND, groups_N, found), "> 0.99", "brute force"),
    ]


def timed(work: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def faiss_alone(vectors_ND: Vectors, certificate: Certificate) -> None:
    """The index that the certificate names, built and asked for every vector's neighbours and itself."""
    index = faiss.IndexFlatIP(WIDTH)
    if certificate.method == "ivf":
        index = faiss.IndexIVFFlat(index, WIDTH, certificate.cells, faiss.METRIC_INNER_PRODUCT)
        index.nprobe = certificate.probes
        index.train(vectors_ND)
    index.add(vectors_ND)
    index.search(vectors_ND, WANTED + 1)


def brute_recall(vectors_ND: Vectors, groups_N: Rows, found: Found) -> float:
    """Over a sample, against float64 products with every vector."""
    asked, _ = samples(len(vectors_ND))
    wide_ND = vectors_ND.astype(np.float64)
    scores_QN = wide_ND[asked] @ wide_ND.T
    scores_QN[groups_N[asked, None] == groups_N] = -np.inf
    best_QK = np.argpartition(-scores_QN, WANTED, axis=1)[:, :WANTED]
    truth = Found(best_QK, np.take_along_axis(scores_QN, best_QK, 1))
    return recall(Found(found.rows[asked], found.cosines[asked]), truth)


if __name__ == "__main__":
    main()
