"""Text neighbours: like in words, never known to be true of the anchor's picture."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.params import Selection, TextSelection
from data_pipeline.negatives import tfidf
from data_pipeline.negatives.neighbours import NONE, Found, nearest
from data_pipeline.negatives.selection import order
from data_pipeline.negatives.text_neighbours import (
    Sentences,
    candidates,
    draws,
    known_true,
    sentences,
    weights,
)
from data_pipeline.negatives.wording import plain

some_words = st.lists(st.sampled_from(["red", "ball", "cube", "on", "left"]), min_size=1, max_size=6)


def table(*rows: tuple[str, str, str], role: str = "statement") -> pl.DataFrame:
    """(group, text id, content)."""
    alike = {"role": role}
    return pl.DataFrame(
        [
            {"text": name, "key": f"k{group}", "group": group, "content": said, **alike}
            for group, name, said in rows
        ]
    )


def asked(*rows: tuple[str, str, str, str]) -> pl.DataFrame:
    """(group, question id, content, answer)."""
    schema = ["group", "text", "content", "answer"]
    return pl.DataFrame(rows, schema=dict.fromkeys(schema, pl.String), orient="row")


def named(
    found: Sentences, anchor: str, settings: TextSelection | None = None
) -> tuple[list[str], dict[str, int]]:
    """Ids of an anchor's candidates, and what the filters took."""
    vectors = tfidf.vectors(found.different, 256)
    near = nearest(vectors, np.arange(len(vectors)), 8)
    row = found.table["text"].to_list().index(anchor)
    rng = np.random.default_rng(0)
    left, counts = candidates(
        found,
        near,
        np.array([row]),
        settings or TextSelection(sampling_strategy="top"),
        rng,
        weights(found, near),
    )
    assert (left.rows[0] != NONE).sum() == left.count[0]
    return [found.table["text"][int(at)] for at in left.rows[0, : left.count[0]]], dict(counts)


@pytest.mark.parametrize(
    "same",
    ["a red ball", "The red ball.", "RED  BALL!", " the\nred ball ", "No, the red ball.", "Yes, a red ball"],
)
def test_the_same_said_otherwise_is_the_same(same: str) -> None:
    assert plain(same) == "red ball"


@pytest.mark.parametrize("other", ["no red ball", "red balls", "ball red", "yes red ball"])
def test_what_says_something_else_is_not(other: str) -> None:
    assert plain(other) != "red ball"


def test_a_neighbour_says_something_that_no_text_of_the_group_says() -> None:
    found = sentences(
        table(
            ("g1", "a", "The ball is red."),
            ("g1", "b", "The ball is large."),
            ("g2", "c", "the ball is large"),  # true of g1: b says it
            ("g2", "d", "The ball is blue."),
            ("g3", "e", "A ball is blue!"),  # the same as d
            ("g3", "f", "The ball is RED"),  # the same as a
        ),
        asked(),
    )
    ids, counts = named(found, "a")
    assert len(ids) == 1 and ids[0] in ("d", "e")
    assert counts["same_picture"] == 1  # "the ball is large"
    assert named(found, "d")[0] and set(named(found, "d")[0]) <= {"a", "b", "f"} - {"c"}


def test_an_answer_that_the_group_has_is_no_negative() -> None:
    texts = table(
        ("g1", "1.full", "It is a red one."), ("g2", "2.full", "The ball is red."), ("g3", "3", "red")
    )
    questions = asked(
        ("g1", "1", "What color is the ball?", "red"), ("g2", "2", "what color is the ball?", "red")
    )
    ids, counts = named(sentences(texts, questions), "1.full")
    assert ids == ["3"] and counts["same_answer"] == 1
    other = questions.with_columns(answer=pl.Series(["red", "blue"]))
    assert sorted(named(sentences(texts, other), "1.full")[0]) == ["2.full", "3"]


def test_what_is_said_in_two_roles_is_two_texts_and_true_in_either() -> None:
    captions = table(("g1", "a", "a red ball"), ("g2", "b", "a blue ball"), ("g3", "c", "a ball"))
    phrases = table(("g2", "d", "the ball"), ("g1", "e", "blue ball!"), role="phrase")
    found = sentences(pl.concat([captions, phrases]), asked())
    assert found.different == ["a red ball", "a blue ball", "a ball", "the ball", "blue ball!"]
    assert {role: rows.tolist() for role, rows in found.of_role.items()} == {
        "phrase": [3, 4],
        "statement": [0, 1, 2],
    }
    true = known_true(found, np.arange(5), np.tile(np.arange(5), (5, 1)))["same_picture"]
    assert true[0].tolist() == [
        True,
        True,
        False,
        False,
        True,
    ]  # g1: "a red ball", and "blue ball" as a phrase
    assert true[1].tolist() == [False, True, True, True, True]
    assert true[2].tolist() == [False, False, True, True, False]


def test_texts_without_words_are_left_out() -> None:
    found = sentences(table(("g1", "a", "?!"), ("g2", "b", "one")), asked())
    assert found.table["text"].to_list() == ["b"]


@given(st.lists(some_words, min_size=1, max_size=8), some_words)
def test_vectors_are_of_the_words_in_their_order(texts: list[list[str]], more: list[str]) -> None:
    said = [" ".join(words) for words in texts]
    vectors = tfidf.vectors([*said, *(text.upper() + "!" for text in said)], 128)
    assert (vectors[: len(said)] == vectors[len(said) :]).all()
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)


def test_rare_words_and_pairs_of_words_weigh_more() -> None:
    texts = ["the ball is red", "the ball is on fire", "the cube is red", *["the thing is there"] * 20]
    vectors = tfidf.vectors(texts, 1024)
    near = vectors @ vectors[0]
    assert near[0] == pytest.approx(1) and near[2] > near[3] and near[1] > near[3]
    apart = tfidf.vectors(["dog bites man", "man bites dog", "", "zebra"], 1024)
    assert 0.2 < apart[0] @ apart[1] < 0.9
    assert not apart[2].any() and abs(apart[0] @ apart[3]) < 0.2


def test_blocks_change_no_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"a {'red' if n % 3 else 'blue'} thing number {n % 7}" for n in range(50)]
    whole = tfidf.vectors(texts, 64)
    monkeypatch.setattr(tfidf, "BLOCK", 7)
    assert (tfidf.vectors(texts, 64) == whole).all()


SCORES = np.array([[0.9, 0.8, 0.5, 0.2]])


def taken(allowed: list[bool] | None = None, **settings: object) -> tuple[list[int], dict[str, int]]:
    chosen = Selection(**{"range_max": 4, **settings})  # type: ignore[arg-type]
    here = np.array([allowed or [True] * 4])
    columns, count, passed = order(SCORES, here, chosen, np.random.default_rng(1))
    return columns[0, : count[0]].tolist(), {name: n for name, n in passed.items() if n}


def test_options_mean_what_they_do_in_sentence_transformers() -> None:
    assert taken() == ([0, 1, 2, 3], {})
    assert taken(range_min=1, range_max=3) == ([1, 2], {"range": 2})
    assert taken(max_score=0.8) == ([1, 2, 3], {"max_score": 1})
    assert taken(min_score=0.5) == ([0, 1, 2], {"min_score": 1})
    assert taken([False, True, True, True], range_max=2) == ([1, 2], {"range": 1})  # ranks of what is left
    drawn, _ = taken(sampling_strategy="random")
    assert sorted(drawn) == [0, 1, 2, 3] != drawn


def test_random_draws_say_which_are_known_to_be_true() -> None:
    found = sentences(table(("g1", "a", "red"), ("g1", "b", "blue"), ("g2", "c", "green")), asked())
    vectors = tfidf.vectors(found.different, 64)
    anchors = np.zeros(200, np.int64)
    rows, scores, true = draws(found, vectors, anchors, np.random.default_rng(0))
    assert (true == np.isin(rows, [0, 1])).all() and 0 < true.mean() < 1
    assert scores[rows == 0] == pytest.approx(1)


def test_random_draws_are_of_the_anchors_role() -> None:
    phrases = table(("g0", "a", "red"), ("g1", "b", "blue"), role="phrase")
    captions = table(("g0", "c", "a red ball"), ("g1", "d", "a blue one"), role="caption")
    found = sentences(pl.concat([phrases, captions]), asked())
    anchors = np.arange(400) % 4
    rows, _, _ = draws(found, tfidf.vectors(found.different, 64), anchors, np.random.default_rng(0))
    assert (rows // 2 == anchors // 2).all() and set(rows.tolist()) == {0, 1, 2, 3}


def hub(texts: int, depth: int) -> tuple[Sentences, Found]:
    """Texts of as many pictures, each with the first of them as its nearest and any others behind it."""
    said = sentences(table(*((f"g{n}", f"t{n}", f"word{n}") for n in range(texts))), asked())
    rng = np.random.default_rng(0)
    others = np.array(
        [rng.permutation([n for n in range(1, texts) if n != of])[:depth] for of in range(texts)]
    )
    rows = np.concatenate([np.zeros((texts, 1), np.int64), others], axis=1)
    rows[0, 0] = NONE
    return said, Found(rows, np.where(rows == NONE, 0.0, np.linspace(1, 0, depth + 1)))


def named_first(strategy: str) -> np.ndarray:
    """How often each text is the first candidate of another."""
    said, found = hub(texts=200, depth=16)
    settings = TextSelection(sampling_strategy=strategy)  # type: ignore[arg-type]
    random, everything = np.random.default_rng(1), np.arange(200)
    left, _ = candidates(said, found, everything, settings, random, weights(said, found))
    return np.bincount(left.rows[:, 0], minlength=200)


def often(times: int, others: int) -> Sentences:
    """A text that many pictures have, and others of one picture each."""
    many = [(f"g{n}", f"t{n}", "word") for n in range(times)]
    return sentences(table(*many, *((f"h{n}", f"u{n}", f"word{n}") for n in range(others))), asked())


def test_a_text_that_is_said_often_is_named_as_much_more_often() -> None:
    """Of 20 pictures it is true, of one each of the others: its words tell no more than theirs."""
    said = often(times=20, others=200)
    others = np.array([[n for n in range(201) if n != of] for of in range(201)])
    found, random = Found(others, np.ones(others.shape)), np.random.default_rng(0)
    everyone, settings = np.tile(np.arange(220), 20), TextSelection(range_max=200)
    left, _ = candidates(said, found, everyone, settings, random, weights(said, found))
    first = np.bincount(said.said[left.rows[:, 0]], minlength=201)
    assert first[0] / first[1:].mean() == pytest.approx(20, rel=0.1)


def test_a_neighbour_of_a_text_that_is_said_often_is_near_as_often() -> None:
    """By hand: the second is near 20 times and once more, the first once and the last never."""
    found = Found(np.array([[1, NONE], [NONE, NONE], [0, 1], [NONE, NONE]]), np.zeros((4, 2)))
    assert weights(often(times=20, others=3), found).tolist() == [20, 1 / 21, 1, 1]


def test_a_text_that_is_near_to_all_is_not_named_by_all() -> None:
    """Each is true once: what is named far more often than that could be told by its words."""
    assert named_first("top")[0] == 199
    assert named_first("balanced")[0] < 10 > named_first("balanced")[1:].max()
