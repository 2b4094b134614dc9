"""Losses against naive loops in double precision, and the facts that their papers and bugs are known by."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from naive import naive_contrast, naive_mean, naive_row
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    normalize,
)
from torchvision.ops import sigmoid_focal_loss

from training.objectives import losses

SEEDS = st.integers(0, 2**31)


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def masks(seed: int, rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Positives and ignored pairs, at random: rows without either among them."""
    positive = drawn(seed + 1, rows, columns) > 0.7
    return positive, (drawn(seed + 2, rows, columns) > 0.7) & ~positive


def symmetric(scores, positive, ignored=None) -> torch.Tensor:
    """Both ways of a contrast, positives with equal mass, as itc and region have it."""
    across = None if ignored is None else ignored.T
    there = losses.info_nce(scores, losses.equal_mass(positive), ignored)
    return 0.5 * (there + losses.info_nce(scores.T, losses.equal_mass(positive.T), across))


@given(SEEDS, st.integers(1, 6), st.integers(1, 7))
def test_symmetric_contrast_is_the_naive_loop(seed, rows, columns):
    scores, (positive, ignored) = 5 * drawn(seed, rows, columns), masks(seed, rows, columns)
    expected = (
        naive_contrast(scores, positive, ignored) + naive_contrast(scores.T, positive.T, ignored.T)
    ) / 2
    assert symmetric(scores, positive, ignored).item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@given(SEEDS, st.floats(0, 1))
def test_soft_targets_are_the_naive_mixture(seed, alpha):
    scores, teacher = drawn(seed, 4, 5), drawn(seed + 9, 4, 5)
    positive, ignored = masks(seed, 4, 5)
    hard = losses.equal_mass(positive)
    rows = []
    for row in range(4):
        kept = [bool(positive[row, c] or not ignored[row, c]) for c in range(5)]
        total = sum(math.exp(teacher[row, c]) for c in range(5) if kept[c])
        mixed = [
            alpha * math.exp(teacher[row, c]) / total * kept[c] + (1 - alpha) * hard[row, c].item()
            for c in range(5)
        ]
        rows.append(
            naive_row(scores[row].tolist(), mixed, ignored[row].tolist()) if hard[row].any() else None
        )
    soft = losses.soften(hard, teacher, alpha, ignored)
    assert losses.info_nce(scores, soft, ignored).item() == pytest.approx(
        naive_mean(rows), rel=1e-4, abs=1e-5
    )


def test_alpha_0_is_plain_info_nce():
    hard = losses.equal_mass(torch.eye(4, dtype=torch.bool))
    assert torch.equal(losses.soften(hard, drawn(0, 4, 4).float(), 0.0), hard)


def test_one_positive_a_row_is_cross_entropy():
    scores, eye = drawn(0, 6, 6).float(), torch.eye(6, dtype=torch.bool)
    expected = (cross_entropy(scores, torch.arange(6)) + cross_entropy(scores.T, torch.arange(6))) / 2
    assert symmetric(scores, eye).item() == pytest.approx(expected.item(), rel=1e-6)


def test_an_ignored_pair_is_as_if_it_were_not_there():
    scores, eye = drawn(0, 3, 4).float(), torch.eye(3, 4, dtype=torch.bool)
    ignored = torch.zeros(3, 4, dtype=torch.bool)
    ignored[:, 3] = True
    whole = losses.info_nce(scores, losses.equal_mass(eye), ignored)
    assert whole.item() == pytest.approx(losses.info_nce(scores[:, :3], eye[:, :3].float()).item(), rel=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_rows_without_a_positive_or_with_only_ignored_columns_give_zero_and_no_nan(scale):
    scores = (scale * drawn(0, 3, 3)).float().requires_grad_()
    nothing, everything = torch.zeros(3, 3, dtype=torch.bool), torch.ones(3, 3, dtype=torch.bool)
    loss = symmetric(scores, nothing, everything)
    loss.backward()
    assert loss == 0 and not scores.grad.any()


@given(SEEDS, st.integers(1, 5))
def test_one_of_k_is_the_naive_loop(seed, negatives):
    scores, real = drawn(seed, 4, 1 + negatives), drawn(seed + 1, 4, 1 + negatives) > -0.5
    rows = [
        -math.log(math.exp(row[0]) / sum(math.exp(s) for s, there in zip(row, mask, strict=True) if there))
        if mask[0] and any(mask[1:])
        else None
        for row, mask in zip(scores.tolist(), real.tolist(), strict=True)
    ]
    assert losses.one_of(scores, real).item() == pytest.approx(naive_mean(rows), rel=1e-4, abs=1e-6)


@given(SEEDS, st.integers(1, 5), st.floats(0, 10))
def test_rank_is_the_naive_loop(seed, negatives, threshold):
    logits, real = 3 * drawn(seed, 4, 1 + negatives), drawn(seed + 1, 4, 1 + negatives) > -0.5
    rows = []
    for row, there in zip(logits.tolist(), real.tolist(), strict=True):
        false = [x for x, is_there in zip(row[1:], there[1:], strict=True) if is_there and there[0]]
        short = [max(0.0, threshold + x - row[0]) for x in false]
        rows.append(sum(short) / len(short) if short else None)
    found = losses.rank(logits, real, torch.tensor(threshold)).item()
    assert found == pytest.approx(naive_mean(rows), rel=1e-4, abs=1e-6)


def test_a_true_text_that_is_far_enough_ahead_is_left_alone():
    logits = torch.tensor([[9.0, 1.0, 8.0], [9.0, 1.0, 2.0]], requires_grad=True)
    losses.rank(logits, torch.ones(2, 3).bool(), torch.tensor(5.0)).backward()
    assert logits.grad.tolist() == [[-0.25, 0.0, 0.25], [0.0, 0.0, 0.0]]


@given(SEEDS, st.integers(0, 14))
def test_intra_modal_is_the_naive_loop(seed, rows):
    z, words = normalize(drawn(seed, rows, 3)), drawn(seed + 1, rows).gt(0.5).long() * torch.arange(rows)
    nearest = []
    for i in range(rows):
        cosines = [float(z[i] @ z[j]) for j in range(rows)]
        far = [0.0 if words[i] == words[j] or x > 0.95 else x for j, x in enumerate(cosines)]
        nearest.append(math.log(sum(map(math.exp, sorted(far, reverse=True)[:10]))))
    found = losses.intra_modal(z, words).item()
    assert found == pytest.approx(naive_mean(nearest), rel=1e-4, abs=1e-5)


def test_intra_modal_draws_alike_texts_apart_but_not_those_that_say_the_same():
    z = normalize(drawn(0, 5, 3)).requires_grad_()
    losses.intra_modal(z, torch.tensor([0, 0, 0, 0, 0])).backward()
    assert not z.grad.any()
    z.grad = None
    losses.intra_modal(z, torch.tensor([0, 0, 1, 1, 1])).backward()
    moved = normalize(z.detach() - 0.1 * z.grad)
    assert (moved[:2] @ moved[2:].T).mean() < (z[:2] @ z[2:].T).mean()


@pytest.mark.parametrize("k", [1, 2, 4, 10])
def test_equal_embeddings_give_ln_k_and_ln_11(k):
    same = torch.ones(k, k)
    assert symmetric(same, torch.eye(k, dtype=torch.bool)).item() == pytest.approx(math.log(k))
    eleven = torch.ones(k, 11)
    assert losses.one_of(eleven, eleven.bool()).item() == pytest.approx(math.log(11))


@given(SEEDS, st.floats(0, 5))
def test_focal_is_the_naive_loop(seed, gamma):
    logits, label = drawn(seed, 5, 3), drawn(seed, 5).gt(0).long()
    weight = torch.tensor([0.2, 0.5, 0.3])
    rows = []
    for row, y in zip(logits.tolist(), label.tolist(), strict=True):
        p = math.exp(row[y]) / sum(map(math.exp, row))
        rows.append(-weight[y].item() * (1 - p) ** gamma * math.log(p))
    assert losses.focal(logits, label, gamma, weight).item() == pytest.approx(
        sum(rows) / 5, rel=1e-3, abs=1e-6
    )


def two_classes(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    logits = 3 * drawn(seed, 16, 2).float()
    return logits, drawn(seed + 1, 16).gt(0).long(), logits[:, 1] - logits[:, 0]


def test_gamma_0_alpha_minus_1_is_bce():
    logits, label, difference = two_classes()
    expected = binary_cross_entropy_with_logits(difference, label.float())
    assert losses.focal(logits, label, gamma=0.0).item() == pytest.approx(expected.item(), rel=1e-5)


def test_two_class_softmax_focal_is_sigmoid_focal_on_the_logit_difference():
    logits, label, difference = two_classes()
    expected = sigmoid_focal_loss(difference, label.float(), alpha=0.25, gamma=2.0, reduction="mean")
    found = losses.focal(logits, label, 2.0, torch.tensor([0.75, 0.25]))
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("label", [0, 1])
def test_focal_has_a_gradient_where_the_model_is_sure(gamma, label):
    logits = torch.tensor([[80.0, -80.0]], requires_grad=True)
    losses.focal(logits, torch.tensor([label]), gamma).backward()
    assert logits.grad.isfinite().all()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20))
def test_class_balance_gives_every_class_the_same_part_of_the_mean(labels):
    label = torch.tensor(labels)
    weight = losses.class_balance(label, 4)[label]
    parts = [weight[label == kind].sum().item() / len(labels) for kind in set(labels)]
    assert parts == pytest.approx([1 / len(parts)] * len(parts))


def alike(label: torch.Tensor) -> torch.Tensor:
    """[B,B] whether two are of one class."""
    return label[:, None] == label


@given(SEEDS)
def test_supcon_is_the_naive_loop(seed):
    z, label = normalize(drawn(seed, 6, 4)), (drawn(seed + 1, 6) > 0).long()
    rows = []
    for i in range(6):
        others = [a for a in range(6) if a != i]
        total = sum(math.exp(z[i] @ z[a] / 0.1) for a in others)
        same = [p for p in others if label[p] == label[i]]
        terms = [math.log(math.exp(z[i] @ z[p] / 0.1) / total) for p in same]
        rows.append(-sum(terms) / len(same) if same else None)
    found = losses.supcon(z, alike(label), scale=10.0).item()
    assert found == pytest.approx(naive_mean(rows), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("batch", [2, 8, 33])
def test_identical_features_give_ln_2b_minus_1(batch):
    same = normalize(torch.ones(2 * batch, 5))
    assert losses.supcon(same, alike(torch.arange(batch).repeat(2))).item() == pytest.approx(
        math.log(2 * batch - 1), rel=1e-5
    )


def test_supcon_looks_past_what_is_ignored():
    z, label = normalize(drawn(0, 5, 4).float()), torch.tensor([0, 0, 1, 1, 2])
    last = torch.arange(5) == 4
    torch.testing.assert_close(
        losses.supcon(z, alike(label), ignored_BB=last[:, None] | last),
        losses.supcon(z[:4], alike(label[:4])),
    )


def test_supcon_anchors_without_a_positive_are_left_out():
    z = normalize(drawn(0, 3, 4).float())
    assert losses.supcon(z, alike(torch.arange(3))) == 0


def test_arcface_gradient_is_s_sin_theta_plus_m_over_sin_theta():
    cosine = torch.tensor([[0.3]], requires_grad=True)
    losses.arcface_logits(cosine, torch.tensor([0]), 64.0, 0.5).sum().backward()
    theta = math.acos(0.3)
    assert cosine.grad.item() == pytest.approx(64 * math.sin(theta + 0.5) / math.sin(theta), rel=1e-4)
    assert cosine.grad.item() == pytest.approx(65.8, abs=0.1)


def test_arcface_never_rises_with_the_angle_and_has_no_nan_at_its_ends():
    cosine = torch.linspace(1, -1, 2001)[:, None].requires_grad_()
    logits = losses.arcface_logits(cosine, torch.zeros(2001, dtype=torch.long), 64.0, 0.5)
    logits.sum().backward()
    assert (logits.diff(dim=0) <= 0).all() and cosine.grad.isfinite().all()


def test_arcface_of_label_minus_1_has_no_margin():
    cosine = drawn(0, 1, 3).tanh().float()
    torch.testing.assert_close(losses.arcface_logits(cosine, torch.tensor([-1]), 64.0, 0.5), 64 * cosine)
