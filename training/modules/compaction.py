"""Only the tokens that may be looked at go on: what nothing attends to is not computed (MAE's trick).

Legend: P pictures, N tokens of a grid, V tokens that are kept of each, H width.
"""

import torch
from torch import Tensor


class Kept:
    """Which of the tokens [P,N] go on, each picture's in their order: the visible ones, and CLS first even
    where it is hidden. V is that of the picture with the most; others keep hidden ones at their end.

    cls: the first token is a CLS.
    """

    def __init__(self, visible: Tensor, cls: bool) -> None:
        wanted = visible.clone()
        wanted[:, : int(cls)] = True
        pictures, self.tokens = visible.shape
        most = max(1, int(wanted.sum(1).max())) if pictures else self.tokens
        places = (~wanted).byte().argsort(stable=True)[:, :most]
        self.places = places
        self.rows = (places + self.tokens * torch.arange(pictures, device=places.device)[:, None]).flatten()

    def take(self, tokens: Tensor) -> Tensor:
        """[P,N,…] → [P,V,…]."""
        return tokens.flatten(0, 1).index_select(0, self.rows).unflatten(0, (len(tokens), -1))

    def put_back(self, tokens: Tensor) -> Tensor:
        """[P,V,…] → [P,N,…], each on its place and zeros elsewhere."""
        places = tokens.new_zeros(len(tokens) * self.tokens, *tokens.shape[2:])
        return places.index_copy(0, self.rows, tokens.flatten(0, 1)).unflatten(0, (len(tokens), -1))

    def codes(self, codes: Tensor) -> Tensor:
        """What belongs to the places themselves, [N,H] → [P,V,H]."""
        return codes[self.places]


class All:
    """Every token goes on, on its place."""

    def take(self, tokens: Tensor) -> Tensor:
        """As it is."""
        return tokens

    put_back = codes = take
