"""How much of the frozen features of hidden tokens is guessed from the rest, on held-out pictures."""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F

from training.batch import Batch
from training.batching.needs import need
from training.evaluation.held_out import HeldOut, Picture
from training.evaluation.scored import Scored, Section, Wanted, scored
from training.heads.mfm import MfmHead, hidden_error
from training.modules.pooling import masked_mean


def score(held: HeldOut, _wanted: Wanted) -> Scored | str:
    """`explained`: the share of the variance, 0 for a guess of nothing; its baseline is to guess the mean of
    the picture's visible tokens. Masks are drawn as in training, with the ratio that it ended with.
    """
    every = held.every_picture()
    return scored("mfm", {name: {"": _section(held, name, some)} for name, some in every.items()})


@torch.inference_mode()
def _section(held: HeldOut, dataset: str, pictures: Sequence[Picture]) -> Section:
    head = cast(MfmHead, held.model.heads["mfm"])
    there = [picture for picture in pictures if not picture.absent]
    explained, by_mean, tokens = 0.0, 0.0, 0
    for batch in held.batches("mfm", dataset, there, need("mfm"), mask=held.run.settings.masking.at_end):
        value, count = head(held.model.trunk(batch), batch).measures["explained"]
        explained, tokens = explained + float(value), tokens + count
        by_mean += count - mean_error(batch, head.name)
    counts = {"hidden_tokens": tokens, "pictures": len(there)}
    noted = {"without_features": len(pictures) - len(there)}
    if not tokens:
        return Section({"explained": None}, {"explained": None}, counts, noted)
    return Section({"explained": explained / tokens}, {"explained": by_mean / tokens}, counts, noted)


def mean_error(batch: Batch, name: str) -> float:
    """The error over the hidden tokens of a column where each is guessed as the mean of the visible ones."""
    features = batch.tokens_of(name).float()
    normed = F.layer_norm(features, features.shape[-1:])
    guess = masked_mean(normed, batch.visible[name])[:, None].expand_as(normed)
    return float(hidden_error(guess, features, batch.hidden[name]))
