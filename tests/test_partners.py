"""Wrong partners: what words alone, or pictures alone, say tells no wrong pair from a true one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation.metrics import matching
from training.evaluation.partners import GROUP, NOBODY, next_texts, whole_groups


@st.composite
def batches(draw):
    """Pictures with unequal numbers of texts, of few wordings, some of them copies of each other."""
    counts = draw(st.lists(st.integers(1, 4), min_size=1, max_size=20))
    picture_R = np.repeat(np.arange(len(counts)), counts)
    seed = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    word_R = seed.integers(0, draw(st.integers(1, 12)), len(picture_R))
    group_P = seed.integers(0, draw(st.integers(1, 30)), len(counts))
    said_RP = np.zeros((len(picture_R), len(counts)), bool)
    row, other = (word_R[:, None] == word_R).nonzero()
    said_RP[row, picture_R[other]] = True
    return picture_R, said_RP | (group_P[picture_R][:, None] == group_P)


@given(batches())
def test_next_texts_are_of_other_pictures_and_false_both_ways(batch):
    picture_R, may_be_true_RP = batch
    next_R = next_texts(*batch)
    rows = (next_R != NOBODY).nonzero()[0]
    assert sorted(next_R[rows]) == rows.tolist()
    assert not may_be_true_RP[rows, picture_R[next_R[rows]]].any()
    assert not may_be_true_RP[next_R[rows], picture_R[rows]].any()
    assert (picture_R[rows] // GROUP == picture_R[next_R[rows]] // GROUP).all()


@given(batches(), st.integers(0, 2**32 - 1))
def test_what_looks_at_one_side_alone_is_at_chance_to_the_bit(batch, seed):
    """Where pictures have unequal numbers of texts, and some pairs are left out, too."""
    picture_R, _ = batch
    next_R = next_texts(*batch)
    rows = (next_R != NOBODY).nonzero()[0]
    pairs = [
        (rows, picture_R[rows]),
        (rows, picture_R[next_R[rows]]),
        (next_R[rows], picture_R[rows]),
    ]
    of_text, of_picture = np.random.default_rng(seed).integers(-2, 3, (2, len(picture_R))).astype(float)
    for sides in ([of_text[text] for text, _ in pairs], [of_picture[picture] for _, picture in pairs]):
        assert set(matching.itm(*sides).values()) <= {0.5, None}


@given(st.integers(2, 3 * GROUP), st.integers(1, 4))
def test_nobody_is_left_out_where_pictures_have_as_many_texts(pictures, texts):
    picture_R = np.repeat(np.arange(pictures), texts)
    next_R = next_texts(picture_R, picture_R[:, None] == np.arange(pictures))
    alone = pictures % GROUP == 1  # in the last group
    assert (next_R == NOBODY).sum() == alone * texts


def test_who_fits_no_neighbour_is_passed_over_and_the_others_go_on():
    """Pictures 0, 1 and 4 are copies, and so are 2 and 3."""
    kind = np.array([0, 0, 1, 1, 0])
    found = next_texts(np.arange(5), kind[:, None] == kind)
    assert found.tolist() == [2, 3, 0, 1, NOBODY]


def test_groups_are_read_whole():
    assert [whole_groups(batch) for batch in (1, 8, 15, 64)] == [8, 8, 8, 64]
