"""How far true texts were ahead of false ones in the step before: what FG-CLIP 2's rank loss asks for."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.distributed import ALONE, World

MOST = 10.0  # of the logits that a true text is to be ahead


class RankThreshold(nn.Module):
    """value: mean logit of the true texts − that of the false ones, over all of the last step that had some,
    within [0, 10]. It starts at 0 and is in the checkpoint.

    Of the step before, so that all parts and processes of a step ask for the same.
    """

    value: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros(()))
        self._seen: list[Tensor] = []

    @torch.no_grad()
    def see(self, true_S: Tensor, false_SK: Tensor, real_SK: Tensor) -> None:
        """The logits of a part of the step. real: there is such a false text, and a true one."""
        asks = real_SK.any(1)
        counts = asks.sum(), real_SK.sum()
        sums = true_S[asks].double().sum(), false_SK[real_SK].double().sum()
        self._seen.append(torch.stack([sums[0], counts[0], sums[1], counts[1]]))

    def take_in(self, parts: Sequence[int] = (0,), of: int = 1, world: World = ALONE) -> None:
        """The threshold of the next step, on all processes the same.

        parts: the numbers of those that were seen here, of so many of the step.
        """
        table = torch.zeros(of, 4, dtype=torch.float64)
        for part, sums in zip(parts, self._seen, strict=True):
            table[part] = sums.cpu()
        self._seen.clear()
        world.add(table)
        true, asks, false, pairs = table.sum(0).tolist()
        if pairs:
            self.value.fill_(min(MOST, max(0.0, true / asks - false / pairs)))
