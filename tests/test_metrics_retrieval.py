"""Recall at K: equals a sort by hand, and neither order nor ties help the model."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from training.evaluation.metrics import retrieval
from training.evaluation.metrics.retrieval import both_ways, chance, ranks, recalls, search


@st.composite
def retrievals(draw):
    """Scores with many ties, and one or more positives per query."""
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 12)))
    scores = draw(arrays.arrays(np.float32, shape, elements=st.integers(-3, 3)))
    positive = draw(arrays.arrays(np.bool_, shape))
    sure = draw(arrays.arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1)))
    positive[np.arange(shape[0]), sure] = True
    return scores, positive


def rank_by_hand(row, own) -> int:
    """The place of the first positive after sorting, negatives first where the scores are the same."""
    order = sorted(range(len(row)), key=lambda place: (-row[place], own[place]))
    return next(number for number, place in enumerate(order) if own[place])


@given(retrievals())
def test_a_rank_is_the_place_in_the_sorted_gallery(case):
    assert ranks(*case).tolist() == [rank_by_hand(*row) for row in zip(*case, strict=True)]


@given(retrievals(), st.randoms(use_true_random=False))
def test_the_order_of_the_gallery_means_nothing(case, random):
    scores, positive = case
    order = random.sample(range(scores.shape[1]), scores.shape[1])
    assert (ranks(scores, positive) == ranks(scores[:, order], positive[:, order])).all()


@given(retrievals())
def test_recall_grows_with_k_to_one(case):
    found = list(recalls(ranks(*case), range(1, case[0].shape[1] + 1)).values())
    assert found == sorted(found) and found[-1] == 1


@given(retrievals(), st.data())
def test_what_is_no_candidate_does_not_compete(case, data):
    scores, positive = case
    candidate = data.draw(arrays.arrays(np.bool_, scores.shape))
    gone = np.where(candidate | positive, scores, -np.inf)
    assert (ranks(scores, positive, candidate) == ranks(gone, positive, candidate | positive)).all()


def test_a_constant_score_finds_nothing():
    scores, positive = np.zeros((4, 9)), np.eye(4, 9, dtype=bool)
    assert ranks(scores, positive).tolist() == [8] * 4


@pytest.mark.parametrize("positive_score", [0.5, np.nan])
def test_a_score_that_is_not_a_number_stands_against_the_model(positive_score):
    scores = np.array([[positive_score, np.nan, 0.1]])
    assert ranks(scores, np.array([[True, False, False]])) == (2 if np.isnan(positive_score) else 1)


def test_a_query_without_a_positive_is_our_own_mistake():
    with pytest.raises(AssertionError, match="without a positive"):
        ranks(np.zeros((1, 3)), np.zeros((1, 3), bool))


def test_both_ways_by_hand():
    scores = np.array([[0.9, 0.2, 0.1], [0.8, 0.3, 0.0], [0.7, 0.1, 0.5]])  # 3 pictures, 3 texts
    found = both_ways(np.eye(3), scores, np.array([1, 1, 2]), np.arange(3), np.arange(3))
    assert found["text_to_picture"].ranks.tolist() == [1, 0, 0]
    assert found["picture_to_text"].ranks.tolist() == [0, 1]  # picture 0 has no text, so it asks nothing
    assert found["picture_to_text"].right.tolist() == [2, 1]


@given(st.integers(0, 2**32 - 1))
def test_texts_of_the_same_words_tie_however_their_vectors_are_rounded(seed):
    """Each of 30 pictures has one of three texts: ahead of it stand all those that say the same elsewhere."""
    random = np.random.default_rng(seed)
    words = random.integers(0, 3, 30)
    texts = np.eye(3, 7, dtype=np.float32)[words] + random.normal(0, 1e-7, (30, 7)).astype(np.float32)
    pictures = np.eye(3, 7, dtype=np.float32)[words]
    found = both_ways(texts, pictures, np.arange(30), words, np.arange(30))["picture_to_text"]
    assert found.ranks.tolist() == [(words == word).sum() - 1 for word in words]


@given(st.integers(0, 2**32 - 1))
def test_what_matches_itself_is_always_found(seed):
    vectors = np.random.default_rng(seed).normal(size=(20, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    own = np.repeat(np.arange(20), 2)
    for found in both_ways(vectors[own], vectors, own, own, np.arange(20)).values():
        assert recalls(found.ranks, (1,)) == {"R@1": 1}


@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_blocks_of_queries_give_what_one_matrix_gives(seed, block):
    """And that is a naive loop's, in which copies of a picture do not compete."""
    random = np.random.default_rng(seed)
    texts, pictures = random.normal(size=(9, 4)), random.normal(size=(5, 4))
    own, group = random.integers(0, 5, 9), random.integers(0, 3, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "BLOCK", block)
        found = search(texts, pictures, np.arange(5), own, np.arange(5), group)
    for text, picture, rank, competing in zip(texts, own, found.ranks, found.candidates, strict=True):
        others = [other for other in range(5) if group[other] != group[picture]]
        assert rank == sum(text @ pictures[other] >= text @ pictures[picture] for other in others)
        assert competing == 1 + len(others)


@given(st.integers(1, 6), st.integers(0, 8), st.integers(1, 12))
def test_chance_is_the_share_of_draws_with_a_right_one(right, wrong, k):
    candidates = np.array([right + wrong])
    draws = list(combinations(range(right + wrong), min(k, right + wrong)))
    share = sum(min(draw) < right for draw in draws) / len(draws)
    assert chance(np.array([right]), candidates, (k,))[f"R@{k}"] == pytest.approx(share)


def test_random_vectors_are_at_chance():
    random = np.random.default_rng(1)
    own = np.repeat(np.arange(200), 3)
    texts, pictures = random.normal(size=(600, 32)), random.normal(size=(200, 32))
    found = both_ways(texts, pictures, own, np.arange(600), np.arange(200))
    for one in found.values():
        guess = chance(one.right, one.candidates, (1, 5, 10))
        for name, value in recalls(one.ranks, (1, 5, 10)).items():
            assert value == pytest.approx(guess[name], abs=5 * (guess[name] / len(one.ranks)) ** 0.5)
