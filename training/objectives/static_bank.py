"""Every picture of a dataset as a candidate at each step, its vectors made once (SPN4CIR's second stage).

Legend: E edits, P pictures, G pictures of the bank, K vectors of each, W width, T texts, V soft targets.
"""

import torch
from msgspec import Struct
from torch import Tensor, nn

from training.batch import Batch


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
        edits, groups = batch.rows["cir"], batch.group_ids()
        target = groups[batch.target[edits]][:, None] == self.group
        first = target & (target.cumsum(1) == 1)
        reference = groups[batch.text_picture[edits]][:, None] == self.group
        members = batch.members[edits]
        known = (groups[members.clamp(min=0)][..., None] == self.group) & (members >= 0)[..., None]
        ignored = (target | reference | self._soft(batch)[edits]) & ~first
        return Gallery(first, ignored, known.any(1))

    def _soft(self, batch: Batch) -> Tensor:
        """[T,G] whether a picture is a soft target of a text, or a copy of one."""
        text, key = batch.soft_key.unbind(1)
        named = key[:, None] == self.key
        group = torch.where(named.any(1), self.group[named.int().argmax(1)], 0)
        times = torch.zeros(len(batch.tokens), len(self.group), dtype=torch.int32, device=text.device)
        times.index_add_(0, text, ((group[:, None] == self.group) & named.any(1, keepdim=True)).int())
        return times > 0
