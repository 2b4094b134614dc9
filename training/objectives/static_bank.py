"""Every picture of a dataset as a candidate at each step, its vectors made once (SPN4CIR's second stage).

Legend: E edits, P pictures, G pictures of the bank, K vectors of each, W width, T texts, V soft targets.
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
    """vectors [G,K,W] with the ids of their pictures' groups and keys [G]. Empty at first, and in no
    checkpoint: frozen weights make the same of the same pictures.
    """

    vectors: Tensor
    group: Tensor
    key: Tensor

    def __init__(self, each: int, width: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(0, each, width), persistent=False)
        self.register_buffer("group", torch.zeros(0, dtype=torch.int64), persistent=False)
        self.register_buffer("key", torch.zeros(0, dtype=torch.int64), persistent=False)

    def fill(self, vectors: Tensor, group: Tensor, key: Tensor) -> None:
        """With all pictures at once."""
        self.vectors, self.group, self.key = vectors, group, key

    def gallery(self, batch: Batch) -> Gallery:
        """The pictures of the bank as the edits of a batch see them [E,G].

        No negative is, as in a batch: the reference, a soft target, a copy of one of these or of the target.
        """
        edits = batch.rows["cir"]
        reference = batch.group_ids()[batch.text_picture[edits]][:, None] == self.group
        target, soft, members = (self._named(batch, what)[edits] for what in EDIT_NAMES)
        first = target & (target.cumsum(1) == 1)
        return Gallery(first, (target | reference | soft) & ~first, members)

    def _named(self, batch: Batch, what: str) -> Tensor:
        """[T,G] whether a text names a picture as that, or a copy of it."""
        text, key, _ = batch.edit_key[batch.edit_key[:, 2] == EDIT_NAMES.index(what)].unbind(1)
        known = key[:, None] == self.key
        group = torch.where(known.any(1), self.group[known.int().argmax(1)], 0)
        times = torch.zeros(len(batch.tokens), len(self.group), dtype=torch.int32, device=text.device)
        times.index_add_(0, text, ((group[:, None] == self.group) & known.any(1, keepdim=True)).int())
        return times > 0
