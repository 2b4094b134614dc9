"""The kinds of fusion by name. A new one is a file beside this and a row here.

Every fusion is called as fusion(v, c, v_mask, c_mask): v [B,N,H] the first input, c the second (zero where
its mask is False), [B,N,H] on the same N places or, where these need not be the same, [B,M,H]. It gives
[B,N,H]. One that lays a text over a picture by itself is called as fusion(v, c, rows=…) for that: c [T,H],
rows [T] the picture of each; it gives [T,N,H].
"""

from collections.abc import Callable

from msgspec import Struct
from torch import Tensor, nn

from contract.errors import unknown_name
from training.fusion.cross_attention import CrossAttentionFusion
from training.fusion.difnet import DifnetEncoder, check_layers
from training.fusion.gated import GatedFusionModule


class Shape(Struct, frozen=True):
    """What a fusion may be built from: the model's sizes, and the settings under `train.fusion`."""

    hidden: int
    heads: int
    dropout: float
    alpha: float
    layers: int
    separate: int
    repeats: int


class FirstOnly(nn.Module):
    """`none`: the first input as it is; a second one is not looked at."""

    def forward(self, v: Tensor, *_second: Tensor) -> Tensor:
        """v [B,N,H] → v."""
        return v


def _difnet(shape: Shape) -> nn.Module:
    return DifnetEncoder(
        shape.hidden,
        shape.heads,
        4 * shape.hidden,
        shape.dropout,
        separate=shape.separate,
        repeats=shape.repeats,
        layers=shape.layers,
    )


class Kind(Struct, frozen=True):
    """attends: its tokens look at each other, so they must know their places beforehand.

    aligned: both inputs must lie on the same places, so a text comes as its mean, laid over all of them, and
    not token by token; lays: the fusion does that itself. check: refuses what could not be built, also where
    one input leaves nothing to fuse.
    """

    build: Callable[[Shape], nn.Module]
    check: Callable[[Shape], None] = lambda _shape: None
    attends: bool = False
    aligned: bool = True
    lays: bool = False


FUSIONS = {
    "none": Kind(lambda _shape: FirstOnly()),
    "gated": Kind(lambda shape: GatedFusionModule(shape.hidden, shape.alpha), lays=True),
    "difnet": Kind(_difnet, lambda shape: check_layers(shape.separate, shape.layers), attends=True),
    "cross_attention": Kind(
        lambda shape: CrossAttentionFusion(shape.hidden, shape.heads, shape.dropout, layers=shape.layers),
        attends=True,
        aligned=False,
    ),
}


def kind(name: str) -> Kind:
    """The fusion of that name, or the error that lists them."""
    if name not in FUSIONS:
        raise unknown_name("train.fusion.kind", "fusion", name, FUSIONS)
    return FUSIONS[name]
