"""The kinds of fusion by name. A new one is a file beside this and a row here."""

from collections.abc import Callable

from torch import Tensor, nn

from contract.errors import unknown_name
from training.fusion.gated import GatedFusionModule


class FirstOnly(nn.Module):
    """`none`: the first input as it is; a second one is not looked at."""

    def forward(self, v: Tensor, c: Tensor | None = None) -> Tensor:
        """v [B,N,H] → v."""
        return v


FUSIONS: dict[str, Callable[[int, float], nn.Module]] = {
    "none": lambda _hidden, _alpha: FirstOnly(),
    "gated": GatedFusionModule,
}


def build(kind: str, hidden: int, alpha: float) -> nn.Module:
    """The fusion of that name, or the error that lists them."""
    if kind not in FUSIONS:
        raise unknown_name("train.fusion.kind", "fusion", kind, FUSIONS)
    return FUSIONS[kind](hidden, alpha)
