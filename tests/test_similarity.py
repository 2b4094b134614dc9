"""Contrasts are in float32, whatever precision the rest of a step has."""

from collections.abc import Callable

import pytest
import torch
from torch.nn.functional import normalize

from training.config import Itc, Scale
from training.heads.cir import CirHead
from training.heads.itc import ItcHead
from training.heads.region_contrasts import CONTRASTS
from training.heads.region_pairs import Pairs
from training.objectives.contrast import Contrasted, Identity, Vectors
from training.objectives.losses import supcon
from training.objectives.memory_bank import More
from training.objectives.region_bank import Links
from training.objectives.similarity import similarities

COUNT, SCALE = 6, torch.tensor(100.0)
NUMBERS = torch.arange(COUNT)


def close(seed: int, *shape: int) -> torch.Tensor:
    """Unit vectors near one another, as trained ones are: bf16 does not tell their cosines apart."""
    generator = torch.Generator().manual_seed(seed)
    return normalize(1 + 0.2 * torch.randn(*shape, 16, generator=generator), dim=-1)


def itc() -> torch.Tensor:
    vectors = Vectors(close(0, COUNT), close(1, COUNT), Identity(NUMBERS, NUMBERS, NUMBERS))
    keys = Vectors(close(2, COUNT), close(3, COUNT), vectors.identity)
    head = ItcHead(8, cls=False, options=Itc(width=16, alpha=0.5, alpha_ramp=1, scale=Scale(init=99)))
    head.step = 1
    outcome = head.train().contrast(Contrasted(vectors, keys, SCALE))
    return torch.stack([outcome.loss, outcome.measures["logit_range"][0]])


def cir() -> torch.Tensor:
    return CirHead.scores(close(0, COUNT), close(1, COUNT, 3))


def region() -> torch.Tensor:
    own, none = torch.eye(COUNT, dtype=torch.bool), torch.zeros(COUNT, COUNT, dtype=torch.bool)
    links, more = Links(*[NUMBERS] * 4), More(close(2, COUNT), none)
    vectors = close(0, COUNT), close(1, COUNT)
    pairs = Pairs(*vectors, own, none, own, own, NUMBERS, links, NUMBERS, more_boxes=more)
    return CONTRASTS["infonce"](pairs, SCALE, 0.0)


def one_class_of_two() -> torch.Tensor:
    return supcon(close(0, COUNT), NUMBERS[:, None] // 2 == NUMBERS // 2, SCALE)


@pytest.mark.parametrize("contrast", [itc, cir, region, one_class_of_two])
def test_a_contrast_is_the_same_under_autocast(contrast: Callable[[], torch.Tensor]):
    plain = contrast()
    with torch.autocast("cpu", torch.bfloat16):
        found = contrast()
    assert found.dtype == torch.float32
    assert torch.equal(found, plain)


def test_autocast_itself_would_not_tell_them_apart():
    rows, columns = close(0, COUNT), close(1, COUNT)
    with torch.autocast("cpu", torch.bfloat16):
        cast, kept = rows @ columns.T, similarities(rows, columns)
    assert (100 * (cast.float() - kept)).abs().max() > 0.1
