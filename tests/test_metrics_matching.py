"""ITM per side, 1 of N and entity–object matching: by hand, by law, at chance."""

import gzip
import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation.metrics.matching import auc, entity_object, itm, one_of_n, summary

few = st.lists(st.integers(-3, 3), min_size=1, max_size=12).map(lambda values: np.array(values, float))


@given(few, few)
def test_auc_is_the_share_of_pairs_in_order(positive, negative):
    pairs = [float(p > n) + (p == n) / 2 for p, n in product(positive, negative)]
    assert auc(positive, negative) == pytest.approx(np.mean(pairs))


@given(few, few)
def test_auc_turns_with_the_sign_and_ignores_a_rising_map(positive, negative):
    assert auc(positive, negative) + auc(negative, positive) == pytest.approx(1)
    assert auc(np.exp(positive), np.exp(negative)) == auc(positive, negative)


def test_auc_counts_what_is_not_a_number_against_the_model():
    assert auc(np.array([np.nan]), np.array([0.0])) == 0 == auc(np.array([0.0]), np.array([np.nan]))
    assert auc(np.array([np.inf]), np.array([0.0])) == 1


def test_itm_shows_the_side_that_was_never_learned():
    matched, wrong_picture, wrong_text = np.full(8, 2.0), np.full(8, 1.0), np.full(8, -1.0)
    assert itm(matched, wrong_picture, wrong_text) == {
        "picture_accuracy": 0.5,
        "text_accuracy": 1,
        "picture_auc": 1,
        "text_auc": 1,
    }


@given(st.floats(-5, 5) | st.just(np.nan), st.integers(1, 30), st.integers(1, 30))
def test_a_fixed_answer_is_at_chance_whatever_the_counts(logit, matched, wrong):
    found = itm(np.full(matched, logit), np.full(wrong, logit), np.full(2 * wrong, logit))
    assert set(found.values()) <= ({0.0} if np.isnan(logit) else {0.5})


def test_itm_without_pairs_of_a_side_is_null():
    found = itm(np.ones(3), np.zeros(0), -np.ones(3))
    assert found["picture_accuracy"] is found["picture_auc"] is None and found["text_accuracy"] == 1


def test_one_of_n_by_hand():
    scores = np.array([[3, 1, 2], [3, 3, 0], [1, 2, 9], [9, 0, 0]], float)
    there = np.array([[True, True, True], [True, True, True], [True, True, False], [True, False, False]])
    choice = one_of_n(scores, there)
    assert choice.right.tolist() == [True, False, False]  # a tie is lost; the last row has no negative
    assert choice.chance.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 2])


def test_random_scores_are_at_chance_on_real_fgovd(real_data: Path):
    with gzip.open(real_data / "fgovd/fgovd_e_attributes_llava.jsonl.gz", "rt") as lines:
        counts = np.array([len(json.loads(line)["neg_expression"]) for line in lines])
    there = np.arange(11) <= counts[:, None]
    scores = np.where(there, np.random.default_rng(3).random(there.shape), np.inf)
    found = summary([one_of_n(scores, there)])
    assert found["questions"] == len(counts)
    assert found["chance"] == pytest.approx(1 / 11, abs=0.002)
    assert found["accuracy"] == pytest.approx(found["chance"], abs=4 * (1 / 11 / len(counts)) ** 0.5)


def test_entity_object_looks_at_the_phrases_own_picture():
    scores = np.array([[1.0, 2, 9, 9], [9, 9, 2, 2], [0, 0, 1, 0]])
    own = np.array([0, 1, 1])[:, None] == np.array([0, 0, 1, 1])
    choice = entity_object(scores, flags(own, [(0, 1), (1, 2)]), own)
    assert choice.right.tolist() == [True, False]  # a tie is lost; the third phrase has no link
    chain = entity_object(scores, flags(own, [(1, 2), (1, 3)]), own)
    assert chain.right.tolist() == [True] and chain.chance.tolist() == [1]


def flags(like: np.ndarray, places: list[tuple[int, int]]) -> np.ndarray:
    found = np.zeros(like.shape, bool)
    found[tuple(np.array(places).T)] = True
    return found


def test_no_phrase_and_no_box_is_no_question():
    none = np.zeros((0, 0), bool)
    assert len(entity_object(np.zeros((0, 0)), none, none).right) == 0


@given(st.integers(0, 2**32 - 1), st.randoms(use_true_random=False))
def test_the_order_of_the_boxes_means_nothing(seed, random):
    draw = np.random.default_rng(seed)
    own = draw.integers(0, 3, 5)[:, None] == np.sort(draw.integers(0, 3, 9))
    linked = own & (own.cumsum(1) == 1)
    scores = draw.integers(0, 3, (5, 9)).astype(float)
    order = np.array(random.sample(range(9), 9))
    first = entity_object(scores, linked, own)
    again = entity_object(scores[:, order], linked[:, order], own[:, order])
    assert first.right.tolist() == again.right.tolist() and first.chance.tolist() == again.chance.tolist()


def test_batches_add_up_and_nothing_is_null():
    there = np.ones((2, 2), bool)
    right, wrong = np.array([[1.0, 0]] * 2), np.array([[0.0, 1]] * 2)
    found = summary([one_of_n(right, there), one_of_n(wrong[:1], there[:1])])
    assert found == {"accuracy": pytest.approx(2 / 3), "chance": 0.5, "questions": 3}
    assert summary([]) == {"accuracy": None, "chance": None, "questions": 0}
