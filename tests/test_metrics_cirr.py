"""CIRR's recalls on its real validation split, and the files for its server."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import MismatchError
from training.evaluation.metrics import cirr
from training.evaluation.metrics.cirr import KS, SUBSET_KS, Query, scores, submissions


def world(seed: int, sets: int = 4) -> tuple[list[Query], list[str], np.ndarray]:
    """Sets of six pictures; each picture asks for the next of its set. Scores without a tie."""
    gallery = [f"dev-{number}-img{place}" for number in range(sets) for place in range(6)]
    queries = [
        Query(str(n), name, gallery[n // 6 * 6 :][:6], gallery[n // 6 * 6 + (n + 1) % 6])
        for n, name in enumerate(gallery)
    ]
    random = np.random.default_rng(seed)
    return (
        queries,
        gallery,
        random.permuted(np.tile(np.arange(len(gallery)), (len(queries), 1)), axis=1).astype(float),
    )


@pytest.fixture(scope="module")
def val(real_data: Path) -> tuple[list[Query], list[str]]:
    """The real validation split: 4,181 edits over 2,297 pictures."""
    pairs = json.loads((real_data / "cirr/captions/cap.rc2.val.json").read_bytes())
    gallery = json.loads((real_data / "cirr/image_splits/split.rc2.val.json").read_bytes())
    queries = [
        Query(str(pair["pairid"]), pair["reference"], pair["img_set"]["members"], pair["target_hard"])
        for pair in pairs
    ]
    return queries, list(gallery)


def test_random_scores_are_at_chance_on_the_real_split(val):
    queries, gallery = val
    found = scores(
        queries, gallery, np.random.default_rng(5).random((len(queries), len(gallery)), np.float32)
    )
    assert len(queries) == 4181 and len(gallery) == 2297
    for k, chance in zip(SUBSET_KS, (0.2, 0.4, 0.6), strict=True):
        assert found[f"R_s@{k}"] == pytest.approx(chance, abs=0.025)  # four standard errors
    for k in KS:
        assert found[f"R@{k}"] == pytest.approx(k / (len(gallery) - 1), abs=4 * (k / 2296 / 4181) ** 0.5)


def test_an_oracle_finds_every_real_target_and_none_by_a_tie(val):
    queries, gallery = val
    columns = {name: column for column, name in enumerate(gallery)}
    found = np.zeros((len(queries), len(gallery)), np.float32)
    assert set(scores(queries, gallery, found).values()) == {0.0}
    found[np.arange(len(queries)), [columns[query.reference] for query in queries]] = 2
    found[np.arange(len(queries)), [columns[query.target] for query in queries]] = 1
    assert set(scores(queries, gallery, found).values()) == {1.0}


@given(st.integers(0, 2**32 - 1))
def test_recall_grows_with_k_and_the_mean_is_of_two(seed):
    found = scores(*world(seed))
    for name, ks in (("R", KS), ("R_s", SUBSET_KS)):
        values = [found[f"{name}@{k}"] for k in ks]
        assert values == sorted(values)
    assert found["R@50"] == 1 and found["mean"] == (found["R@5"] + found["R_s@1"]) / 2


@given(st.integers(0, 2**32 - 1), st.randoms(use_true_random=False))
def test_the_order_of_the_gallery_means_nothing(seed, random):
    queries, gallery, matrix = world(seed)
    matrix = matrix // 4  # with ties
    order = random.sample(range(len(gallery)), len(gallery))
    again = queries, [gallery[column] for column in order], matrix[:, order]
    assert scores(*again) == scores(queries, gallery, matrix)
    assert submissions(*again) == submissions(queries, gallery, matrix)


@given(st.integers(0, 2**32 - 1))
def test_the_server_would_count_the_same(seed):
    queries, gallery, matrix = world(seed, sets=10)
    found, sent = scores(queries, gallery, matrix), submissions(queries, gallery, matrix)
    for metric, name, ks in (("recall", "R", KS), ("recall_subset", "R_s", SUBSET_KS)):
        for k in ks:
            hits = [query.target in sent[metric][query.id][:k] for query in queries]
            assert found[f"{name}@{k}"] == pytest.approx(np.mean(hits))


def test_a_submission_is_what_the_server_takes():
    queries, gallery, matrix = world(1, sets=10)
    hidden = [Query(query.id, query.reference, query.members) for query in queries]
    sent = submissions(hidden, gallery, matrix)
    assert sent == submissions(queries, gallery, matrix)
    for metric, length in (("recall", 50), ("recall_subset", 3)):
        content = json.loads(json.dumps(sent[metric]))
        assert (content.pop("version"), content.pop("metric")) == ("rc2", metric)
        assert content.keys() == {query.id for query in queries}
        for query in queries:
            names = content[query.id]
            assert len(set(names)) == len(names) == length and query.reference not in names


def test_a_submission_breaks_ties_by_name():
    queries, gallery, matrix = world(1, sets=60)
    matrix %= 2
    sent = submissions(queries, gallery, matrix)
    for query, row in zip(queries, matrix, strict=True):
        best = [name for _, name in sorted(zip(-row, gallery, strict=True)) if name != query.reference]
        assert sent["recall"][query.id] == best[:50]
        assert sent["recall_subset"][query.id] == [name for name in best if name in query.members][:3]


@pytest.mark.parametrize("part", ["target", "reference", "member"])
def test_a_picture_that_the_gallery_lacks_is_an_error(part):
    queries, gallery, matrix = world(2)
    names = {"target": queries[7].target, "reference": queries[7].reference, "member": queries[7].members[5]}
    column = gallery.index(names[part])
    short = gallery[:column] + gallery[column + 1 :]
    with pytest.raises(MismatchError, match=rf"1 missing: {names[part]}[\s\S]*give all shards"):
        scores(queries, short, np.delete(matrix, column, axis=1))


def test_a_picture_twice_in_the_gallery_is_an_error():
    queries, gallery, matrix = world(2)
    with pytest.raises(MismatchError, match="1 repeated; 0 missing"):
        scores(queries, [*gallery, gallery[0]], np.c_[matrix, matrix[:, 0]])


def test_hidden_targets_cannot_be_scored():
    queries, gallery, matrix = world(2)
    with pytest.raises(MismatchError, match=r"1 of 24 without a target in their set: 3[\s\S]*server"):
        scores(
            [Query(q.id, q.reference, q.members, "" if q.id == "3" else q.target) for q in queries],
            gallery,
            matrix,
        )


def test_a_score_that_is_not_a_number_stands_last():
    queries, gallery, matrix = world(4)
    target = gallery.index(queries[0].target)
    matrix[0, target] = np.nan
    sent = submissions(queries, gallery, matrix)
    assert sent["recall"]["0"][-1] == queries[0].target
    assert cirr.scores(queries[:1], gallery, matrix[:1])["R_s@3"] == 0
