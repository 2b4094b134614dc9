"""Searches: exact equals a plain sort whatever the threads, FAISS is certified, and a low recall fails."""

import tracemalloc

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import FuselineError
from contract.params import NegativesParams
from data_pipeline.negatives import approximate, neighbours
from data_pipeline.negatives.neighbours import NONE, Found
from data_pipeline.negatives.search import search

CLOSE = 1e-12


def clusters(count: int, width: int = 16) -> neighbours.Vectors:
    """Vectors in clumps, as features are."""
    draw = np.random.default_rng(5)
    centres = draw.normal(size=(40, width))
    noise = draw.normal(size=(count, width))
    return neighbours.normalised((centres[draw.integers(0, 40, count)] + 0.4 * noise).astype(np.float32))


def test_vectors_are_brought_to_length_one_without_a_second_copy_of_all() -> None:
    vectors = np.random.default_rng(0).normal(size=(20_000, 64)).astype(np.float32)
    vectors[3] = 0
    tracemalloc.start()
    try:
        unit = neighbours.normalised(vectors)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * unit.nbytes
    assert np.linalg.norm(np.delete(unit, 3, 0), axis=1) == pytest.approx(1) and not unit[3].any()
    assert np.vecdot(unit[:3], vectors[:3]) == pytest.approx(np.linalg.norm(vectors[:3], axis=1))


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 6), st.integers(1, 5))
def test_neighbours_equal_a_plain_sort(seed: int, vectors: int, groups: int, wanted: int) -> None:
    draw = np.random.default_rng(seed)
    points = neighbours.normalised(draw.integers(-2, 3, (vectors, 3)).astype(np.float32))  # many ties
    group = draw.integers(0, groups, vectors)
    found = neighbours.nearest(points, group, wanted)
    for row in range(vectors):
        scores = np.vecdot(points.astype(np.float64), points[row].astype(np.float64))
        others = [other for other in range(vectors) if group[other] != group[row]]
        plain = sorted(others, key=lambda other: (-scores[other], other))[:wanted]
        assert found.rows[row].tolist() == plain + [NONE] * (wanted - len(plain))
        assert found.cosines[row, : len(plain)] == pytest.approx(scores[plain], abs=CLOSE)


def test_large_groups_and_ties_are_searched_whole() -> None:
    points = np.repeat(clusters(3), 100, axis=0)  # a hundred copies of each: FAISS proposes only copies
    groups = np.repeat([0, 1, 2], 100)
    found = neighbours.nearest(points, groups, 4)
    scores = points.astype(np.float64) @ points.astype(np.float64).T
    for row in (0, 150, 299):
        plain = sorted(np.flatnonzero(groups != groups[row]), key=lambda other: (-scores[row, other], other))
        assert found.rows[row].tolist() == plain[:4]


@pytest.mark.parametrize("exact", [True, False])
def test_blocks_and_threads_change_nothing(monkeypatch: pytest.MonkeyPatch, exact: bool) -> None:
    points, groups = clusters(900), np.arange(900)
    settings = NegativesParams("vit", exact_up_to=900 if exact else 0, min_recall=0.5)

    def found(block: int, threads: int) -> bytes:
        monkeypatch.setattr(neighbours, "BLOCK", block)
        monkeypatch.setattr(neighbours, "QUERIES", 3 * block)
        monkeypatch.setattr(approximate, "QUERIES", 2 * block)
        faiss.omp_set_num_threads(threads)
        here, _ = search("points", points, groups, 8, settings)
        return here.rows.tobytes() + here.cosines.tobytes()

    before = faiss.omp_get_max_threads()
    try:
        assert found(7, 1) == found(256, 2) == found(1024, 1)
    finally:
        faiss.omp_set_num_threads(before)


def test_a_search_of_many_is_certified_by_a_sample() -> None:
    points = clusters(3000)
    settings = NegativesParams("vit", exact_up_to=1000)
    found, certificate = search("points", points, np.arange(3000), 8, settings)
    assert certificate.method == "ivf" and certificate.probes < certificate.cells
    assert certificate.sampled == approximate.SAMPLED and certificate.recall >= 0.99
    truth = neighbours.nearest(points, np.arange(3000), 8)
    assert approximate.recall(found, truth) >= 0.98  # over all, not only the sample
    _, exact = search("points", points, np.arange(3000), 8, NegativesParams("vit"))
    assert (exact.method, exact.recall, exact.sampled) == ("exact", 1.0, 0)


def test_a_large_group_of_near_duplicates_gets_neighbours_too() -> None:
    points, groups = clusters(3000), np.arange(3000)
    points[:200] = neighbours.normalised(points[0] + 1e-4 * points[:200])  # they fill their cells
    groups[:200] = 0
    found, _ = search("points", points, groups, 8, NegativesParams("vit", exact_up_to=0))
    truth = neighbours.nearest(points, groups, 8, np.arange(200))
    assert (found.rows[:200] == truth.rows).all() and (truth.rows != NONE).all()


def test_too_low_a_recall_fails_and_says_what_to_raise() -> None:
    points = neighbours.normalised(np.random.default_rng(0).normal(size=(3000, 64)).astype(np.float32))
    settings = NegativesParams("vit", exact_up_to=0, probes=2)  # noise without clumps, two cells of 219
    with pytest.raises(FuselineError, match="with 2 of 219 cells") as caught:
        search("pictures of gqa/train", points, np.arange(3000), 8, settings)
    assert "negatives.probes" in str(caught.value) and "pictures of gqa/train" in str(caught.value)


def test_the_two_samples_share_no_query() -> None:
    for count in (1, 7, 100, 5000):
        tried, checked = approximate.samples(count)
        assert not set(tried) & set(checked) and len(checked) >= 1
        assert checked.max() < count


def test_recall_counts_equals_as_found_and_strangers_as_missed() -> None:
    truth = Found(np.array([[1, 2]]), np.array([[0.9, 0.5]]))
    assert approximate.recall(truth, truth) == 1
    assert approximate.recall(Found(np.array([[1, 7]]), np.array([[0.9, 0.5]])), truth) == 1
    assert approximate.recall(Found(np.array([[1, 7]]), np.array([[0.9, 0.4]])), truth) == 0.5
    assert approximate.recall(Found(np.array([[1, NONE]]), np.array([[0.9, 0.0]])), truth) == 0.5
