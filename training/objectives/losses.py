"""Losses of scores or vectors: each a scalar, the mean over the rows that have something to learn.

A contrast is told by three tables of one shape: scores, target (a distribution over the columns of each row,
or zeros: the row is left out) and ignored (True = neither positive nor negative, so without a part of the
target). More negatives are more columns: mined pictures and the memory bank are concatenated by the caller.

Legend: R rows, C columns, K negatives, B batch, D width, A classes, W width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from training.objectives.similarity import similarities

SURE = 1e-12  # a 1 − p below what float32 can tell from 0, at which a power less than 1 has no slope
NEAREST, SAME = 10, 0.95  # texts that `intra_modal` draws apart, and a cosine above which they say the same


def equal_mass(positive_RC: Tensor) -> Tensor:
    """Target [R,C] in which a row's positives share a mass of one (BLIP's retrieval variant)."""
    mass = positive_RC.float()
    return mass / mass.sum(1, keepdim=True).clamp(min=1)


def soften(target_RC: Tensor, teacher_RC: Tensor, alpha: float, ignored_RC: Tensor | None = None) -> Tensor:
    """α·softmax(teacher's scores) + (1−α)·target (ALBEF), without gradient; empty rows stay empty."""
    log_p = _log_softmax(teacher_RC.detach(), ignored_RC)
    soft = log_p.exp() * (target_RC.sum(1, keepdim=True) > 0)
    return alpha * soft + (1 - alpha) * target_RC


def info_nce(scores_RC: Tensor, target_RC: Tensor, ignored_RC: Tensor | None = None) -> Tensor:
    """−Σ target · log softmax(scores) over the columns that count."""
    log_p = _log_softmax(scores_RC.float(), ignored_RC)
    if ignored_RC is not None:
        log_p = log_p.masked_fill(ignored_RC, 0)
    rows = -(target_RC * log_p).sum(1)
    return rows.sum() / (target_RC.sum(1) > 0).sum().clamp(min=1)


def sigmoid(logits_RC: Tensor, positive_RC: Tensor, ignored_RC: Tensor) -> Tensor:
    """−Σ log σ(±logit) over the pairs that count, + where they are positive (SigLIP, Zhai et al. 2023).

    The mean over the rows that have a positive.
    """
    pairs = F.binary_cross_entropy_with_logits(logits_RC.float(), positive_RC.float(), reduction="none")
    asks = positive_RC.any(1)
    return (pairs * (positive_RC | ~ignored_RC))[asks].sum() / asks.sum().clamp(min=1)


def one_of(scores_RC: Tensor, real_RC: Tensor) -> Tensor:
    """Cross-entropy of the first of [R,1+K] scores among those that are real (FG-CLIP's L_hard).

    Rows without a positive or without a negative teach nothing and are left out.
    """
    first = torch.zeros_like(scores_RC)
    first[:, 0] = (real_RC[:, 0] & real_RC[:, 1:].any(1)).to(first.dtype)
    return info_nce(scores_RC, first, ~real_RC)


def rank(logits_RC: Tensor, real_RC: Tensor, threshold: Tensor) -> Tensor:
    """max(0, threshold + false − true) of [R,1+K] logits, the true one first (FG-CLIP 2's CMR).

    The mean over the false ones of a row, then over the rows that have both.
    """
    asks = real_RC[:, :1] & real_RC[:, 1:]
    short = (threshold + logits_RC[:, 1:] - logits_RC[:, :1]).clamp(min=0) * asks
    rows = short.sum(1) / asks.sum(1).clamp(min=1)
    return rows.sum() / asks.any(1).sum().clamp(min=1)


def intra_modal(vectors_RW: Tensor, words_R: Tensor) -> Tensor:
    """log Σ exp of a row's ten highest cosines, the mean over the rows (FG-CLIP 2's TIC).

    words: equal for texts that say the same. A pair of these, and one whose cosine is above 0.95, counts as
    one of cosine 0, as published.
    """
    cosine = similarities(vectors_RW, vectors_RW)
    said = words_R[:, None] == words_R
    nearest = cosine.masked_fill(said | (cosine > SAME), 0).topk(min(NEAREST, len(cosine))).values
    return nearest.logsumexp(1).sum() / max(1, len(cosine))


def focal(logits_BA: Tensor, label_B: Tensor, gamma: float = 2.0, weight_A: Tensor | None = None) -> Tensor:
    """Mean of −w_y (1−p_y)^γ log p_y, p the softmax. Of two classes: sigmoid focal loss on the difference.

    weight_A: torchvision's α is (1−α, α); see also `class_balance`.
    """
    log_p = logits_BA.float().log_softmax(1).gather(1, label_B[:, None])[:, 0]
    rows = -((1 - log_p.exp()).clamp(min=SURE) ** gamma) * log_p if gamma else -log_p
    if weight_A is not None:
        rows = rows * weight_A[label_B]
    return rows.sum() / max(1, len(rows))


def class_balance(label_B: Tensor, classes: int) -> Tensor:
    """Weights [A] with which every class that occurs has the same part in a mean over B."""
    count = torch.bincount(label_B, minlength=classes)
    return len(label_B) / ((count > 0).sum().clamp(min=1) * count.clamp(min=1)).float()


def supcon(
    vectors_BD: Tensor, alike_BB: Tensor, scale: float | Tensor = 14.3, ignored_BB: Tensor | None = None
) -> Tensor:
    """SupCon (Khosla et al. 2020, L_out) of unit vectors; an anchor without a positive is left out.

    alike: pairs that are positive, but for each with itself. scale: 1 / the paper's temperature. ignored:
    pairs that are not alike and yet no negatives.
    """
    self_BB = torch.eye(len(alike_BB), dtype=torch.bool, device=alike_BB.device)
    ignored = self_BB if ignored_BB is None else self_BB | (ignored_BB & ~alike_BB)
    scores = scale * similarities(vectors_BD, vectors_BD)
    return info_nce(scores, equal_mass(alike_BB & ~self_BB), ignored)


def arcface_logits(cosine_BA: Tensor, label_B: Tensor, scale: float, margin: float) -> Tensor:
    """s·cos(θ_y + m) at the label, s·cos θ elsewhere (Deng et al. 2019); label −1 has no margin.

    Beyond θ = π − m, where cos(θ + m) would rise again, cos θ − m·sin m goes on falling. The gradient is the
    formula's, s·sin(θ+m)/sin θ: InsightFace's is s.
    """
    cosine = cosine_BA.float().clamp(-1 + 1e-6, 1 - 1e-6)
    m = cosine.new_tensor(margin)
    moved = cosine * m.cos() - (1 - cosine**2).sqrt() * m.sin()
    moved = torch.where(cosine > -m.cos(), moved, cosine - m * m.sin())
    labelled = torch.arange(cosine.shape[1], device=cosine.device) == label_B[:, None]
    return scale * torch.where(labelled, moved, cosine)


def _log_softmax(scores_RC: Tensor, ignored_RC: Tensor | None) -> Tensor:
    """Over the columns that count. The lowest finite number stands for −∞: all of a row can be ignored."""
    if ignored_RC is not None:
        scores_RC = scores_RC.masked_fill(ignored_RC, torch.finfo(scores_RC.dtype).min)
    return scores_RC.log_softmax(1)
