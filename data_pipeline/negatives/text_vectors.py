"""Texts as vectors of length 1, by the encoder that params.yaml names. TF-IDF runs without torch."""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from contract.params import TFIDF, TextSelection
from data_pipeline.engine import run_tasks
from data_pipeline.negatives import tfidf
from data_pipeline.negatives.neighbours import Vectors, normalised

BLOCK = 4096  # texts of one task


class TextEncoder(Struct, frozen=True):
    """Where the vectors come from. width: their channels D. weights: sha256, "" for TF-IDF.

    projected: whether they share a space with the picture vectors of the same model.
    """

    name: str
    width: int
    weights: str = ""
    projected: bool = False


def identify(settings: TextSelection) -> TextEncoder:
    """Load the encoder once and say what it is; every mistake in its settings shows here."""
    if settings.encoder == TFIDF:
        return TextEncoder(TFIDF, settings.dimensions)
    from data_pipeline.negatives import text_tower

    tower = text_tower.load(settings.encoder)
    return TextEncoder(tower.name, tower.width, tower.weights, tower.projected)


def vectors(encoder: TextEncoder, texts: Sequence[str], workers: int, label: str) -> Vectors:
    """[N,D]; the same for any number of workers."""
    if encoder.name == TFIDF:
        return tfidf.vectors(texts, encoder.width)
    from data_pipeline.negatives import text_tower

    starts = range(0, len(texts), BLOCK)
    tasks = [text_tower.Block(encoder.name, texts[start : start + BLOCK]) for start in starts]
    vectors_ND = np.zeros((len(texts), encoder.width), np.float32)
    encoded = run_tasks(text_tower.encode, tasks, workers, label=label)
    for start, part in zip(starts, encoded, strict=True):
        vectors_ND[start : start + BLOCK] = normalised(part)
    return vectors_ND
