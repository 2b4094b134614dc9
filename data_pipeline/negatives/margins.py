"""Margins: by how much a neighbour text must be less like the picture than the picture's own text is.

Only cosines of a picture with texts can be compared so; they exist where one model projects both.

Legend: N pictures, T texts, U different texts, A anchors, K neighbours of each, D channels.
"""

import numpy as np
from msgspec import Struct

from contract.errors import ParamsError
from contract.manifest import FeatureManifest
from contract.params import TextSelection
from data_pipeline.negatives.neighbours import BLOCK, Rows, Scores, Vectors
from data_pipeline.negatives.selection import Mask
from data_pipeline.negatives.text_vectors import TextEncoder


class Margins(Struct):
    """The limits and the space in which they hold.

    pictures: [N,D] of length 1, of use where `seen`. texts: [U,D] of length 1. picture_of: [T] rows of
    `pictures`.
    """

    absolute: float | None
    relative: float | None
    pictures: Vectors
    seen: Mask
    texts: Vectors
    picture_of: Rows


def wanted(settings: TextSelection) -> bool:
    """Whether a margin is set."""
    return settings.absolute_margin is not None or settings.relative_margin is not None


def check(settings: TextSelection, encoder: TextEncoder, features: FeatureManifest) -> None:
    """ParamsError unless pictures and texts, where a margin is set, are projected by one CLIP."""
    pictures = (features.architecture, features.model, features.output, features.weights.source)
    projected = encoder.projected and pictures == ("hf", encoder.name, "dense", "pretrained")
    if wanted(settings) and not (projected and encoder.width == features.width):
        raise ParamsError(
            "negatives.text.absolute_margin and relative_margin",
            "need one space of pictures and texts: a score of one picture against another, or of one text "
            "against another, says nothing about a picture's text",
            found=f"texts by {encoder.name}; pictures, column {features.encoder}, by {' '.join(pictures)}",
            expected="one CLIP for both: `negatives.text.encoder` is the `model` of `negatives.encoder`, an "
            "encoder of architecture hf with `output: dense` and `weights: pretrained`",
            fix="leave the margins out, or use max_score",
        )


def too_like(margins: Margins | None, anchors_A: Rows, own_A: Rows, near_AK: Rows) -> dict[str, Mask]:
    """Option → [A,K], neighbours that stay within the margin; all, where a picture has no features.

    anchors: of the T texts. own, near: of the different ones, what the anchor says and what lies near it.
    """
    if margins is None:
        return {}
    own_A1, cosines_AK = np.split(_cosines(margins, anchors_A, np.column_stack([own_A, near_AK])), [1], 1)
    limits = {}
    if margins.absolute is not None:
        limits["absolute_margin"] = own_A1 - margins.absolute
    if margins.relative is not None:
        limits["relative_margin"] = own_A1 * (1 - margins.relative)
    unseen_A1: Mask = ~margins.seen[margins.picture_of[anchors_A], None]
    return {name: unseen_A1 | (cosines_AK > limit_A1) for name, limit_A1 in limits.items()}


def _cosines(margins: Margins, anchors_A: Rows, texts_AK: Rows) -> Scores:
    """Of each anchor's picture with texts."""
    cosines_AK = np.empty(texts_AK.shape)
    for start in range(0, len(anchors_A), BLOCK):
        part = slice(start, start + BLOCK)
        pictures_BD = margins.pictures[margins.picture_of[anchors_A[part]]].astype(np.float64)
        texts_BKD = margins.texts[texts_AK[part]].astype(np.float64)
        cosines_AK[part] = np.vecdot(texts_BKD, pictures_BD[:, None])
    return cosines_AK
