"""What stands in the place of a token that the mask hides.

Legend: P pictures, N tokens, H hidden width.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from training.modules.pooling import masked_mean

DROP, LEARNED = "drop", "learned"


class Filling(nn.Module):
    """Hidden tokens → what replaces them. Visible tokens pass bit for bit.

    kind: `drop` (they stay hidden, and nothing attends to them), `learned` (one vector), or a row of FILLS.
    """

    def __init__(self, kind: str, width: int) -> None:
        super().__init__()
        self.kind = kind
        self.learned = nn.Parameter(torch.zeros(width)) if kind == LEARNED else None

    def forward(self, tokens: Tensor, visible: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """tokens [P,N,H], visible and hidden [P,N] → tokens, and which of them may be looked at."""
        if self.kind == DROP:
            return tokens, visible
        made = self.learned if self.learned is not None else FILLS[self.kind](tokens, visible)
        return torch.where(hidden[..., None], made, tokens), visible | hidden


def zero(tokens: Tensor, _visible: Tensor) -> Tensor:
    """Nothing."""
    return tokens.new_zeros(())


def mean(tokens: Tensor, visible: Tensor) -> Tensor:
    """[P,1,H] the mean of the picture's visible tokens; zero where none is."""
    return masked_mean(tokens, visible)[:, None]


def noise(tokens: Tensor, visible: Tensor) -> Tensor:
    """[P,N,H] normal noise with the mean and the spread of the picture's visible tokens, by channel."""
    middle = mean(tokens, visible)
    variance = mean((tokens - middle).square(), visible)
    spread = variance.clamp(min=1e-12).sqrt()  # of one token or none the root's slope would be infinite
    return middle + spread * torch.randn_like(tokens)


FILLS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"zero": zero, "mean": mean, "noise": noise}
KINDS = (DROP, LEARNED, *FILLS)
