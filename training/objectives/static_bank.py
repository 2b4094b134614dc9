"""Every picture of a dataset as a candidate at each step, its vectors made once (SPN4CIR's second stage).

Legend: E edits, P pictures, G pictures of the bank, K vectors of each, W width, T texts.
"""

import torch
from msgspec import Struct
from torch import Tensor, nn

from training.batch import EDIT_NAMES, Batch


class Gallery(Struct):
    """What a query may find, [E,P] or [E,G] bool each. target: the hard one. ignored: neither that nor a
    negative. members: the image set without its reference.
    """

    target: Tensor
    ignored: Tensor
    members: Tensor


class StaticBank(nn.Module):
    """vectors [G,K,W] of pictures; group [G]: ids, equal for copies. Empty at first, and in no checkpoint:
    frozen weights make the same of the same pictures.
    """

    vectors: Tensor
    group: Tensor
    _keys: Tensor  # [G] sorted
    _row: Tensor  # [G] of each of these
    _shown: Tensor  # [G] a number for each group, from 0 on

    def __init__(self, each: int, width: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(0, each, width), persistent=False)
        for name in ("group", "_keys", "_row", "_shown"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.int64), persistent=False)
        self._groups = 0

    def fill(self, vectors: Tensor, group: Tensor, key: Tensor) -> None:
        """With all pictures at once. key [G]: an id of each."""
        self.vectors, self.group = vectors, group
        self._keys, self._row = key.sort()
        found, self._shown = group.unique(return_inverse=True)
        self._groups = len(found)

    def gallery(self, batch: Batch) -> Gallery:
        """The pictures of the bank as the edits of a batch see them [E,G].

        No negative is, as in a batch: the reference, a soft target, a copy of one of these or of the target.
        """
        edits = batch.rows["cir"]
        reference = batch.group_ids()[batch.text_picture[edits]][:, None] == self.group
        hard = torch.zeros(len(batch.tokens), len(self.group), dtype=torch.bool, device=reference.device)
        hard[self._named(batch, "target")] = True
        target, soft, members = (self._copies(batch, what)[edits] for what in EDIT_NAMES)
        return Gallery(hard[edits], (target | reference | soft) & ~hard[edits], members)

    def _copies(self, batch: Batch, what: str) -> Tensor:
        """[T,G] whether a text names a picture as that, or a copy of it."""
        text, row = self._named(batch, what)
        named = torch.zeros(len(batch.tokens), self._groups, dtype=torch.bool, device=row.device)
        named[text, self._shown[row]] = True
        return named[:, self._shown]

    def _named(self, batch: Batch, what: str) -> tuple[Tensor, Tensor]:
        """Texts and the rows of the bank that they name as that."""
        text, key, _ = batch.edit_key[batch.edit_key[:, 2] == EDIT_NAMES.index(what)].unbind(1)
        place = torch.searchsorted(self._keys, key.contiguous()).clamp(max=len(self._keys) - 1)
        known = self._keys[place] == key
        return text[known], self._row[place[known]]
