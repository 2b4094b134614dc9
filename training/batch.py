"""What a training step is given. Pictures first, everything else points into them.

Legend: P pictures (anchors first, then looked-up ones, each once; but where a batch straddles two epochs an
anchor can come twice, with another mask and other texts), T texts, L tokens of the longest text, N tokens of
a column, D its width, R regions, S spans, E span–region links, A whole-text–region links, K negatives.
True = real or visible; -1 = none.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from contract.record import Kind
from contract.seeds import hash_keys

KINDS: tuple[str, ...] = get_args(Kind)
EDIT_NAMES = ("target", "soft", "member")


@dataclass
class Batch:
    """One batch. `position` is what the stream's position is once this batch was consumed."""

    position: int
    progress: float  # share of the run's rows that lie before it, in [0, 1]
    dataset: str  # of all its pictures
    keys: list[str]  # [P]; unique in a dataset, not across two
    groups: list[str]  # [P] identity across datasets
    features: dict[str, Tensor]  # column → [P, N, D], in the dtype that the column has on disk
    scales: dict[str, Tensor]  # int8 column → [P, N] float32
    visible: dict[str, Tensor]  # column → [P, N] bool
    hidden: dict[str, Tensor]  # column → [P, N] bool: what the mask hides; padding is neither
    place: dict[str, Tensor]  # column → [P, 4] scale and shift (x, y): original picture → encoder's input
    tokens: Tensor  # [T, L] int64, 0 where there is none
    token_mask: Tensor  # [T, L] bool
    words: Tensor  # [T] int64: equal for texts that say the same, by whichever of several words for a thing
    text_picture: Tensor  # [T] into P
    rows: dict[str, Tensor]  # task → the rows of T that it takes
    text_id: list[str]  # [T]
    text_type: list[str]  # [T] "query/attr"
    answer: Tensor  # [T] into the answer vocabulary, -1 unknown
    boxes: Tensor  # [R, 4] float32 xyxy in [0, 1] of the original picture
    box_picture: Tensor  # [R] into P
    crowd: Tensor  # [R] bool: a box of many things, kept out of contrast
    spans: Tensor  # [S, 2] half-open token spans
    span_text: Tensor  # [S] into T
    span_words: Tensor  # [S] int64, as `words`
    span_box: Tensor  # [E, 2] (into S, into R)
    about: Tensor  # [A, 2] (into T, into R)
    target: Tensor  # [T] into P, for tasks that look at it there
    members: Tensor  # [T, 5] into P, likewise
    soft: Tensor  # [U, 2] (into T, into P): targets beside the hard one, in this batch by chance
    edit_key: Tensor  # [V, 3] (into T, id of a key, into EDIT_NAMES): what edits name, wherever it is
    neg_picture: Tensor  # [T, K] into P
    neg_text: Tensor  # [T, K] into T: texts that the dataset gives as false
    swapped: Tensor  # [T, K] into T: changed texts that the annotations make false
    near_text: Tensor  # [T, K] into T: texts of other pictures, mined as near and not true of this one
    kind: Tensor  # [T] into KINDS: what is false in an appended text, -1 of the pictures' own texts
    named: Tensor  # [E, 2] (into T, into R): boxes that show what a text names

    def tokens_of(self, column: str) -> Tensor:
        """A column's features [P, N, D] as numbers: what is stored as int8 takes its scale."""
        stored = self.features[column]
        return stored * self.scales[column][..., None] if column in self.scales else stored

    def same_picture(self) -> Tensor:
        """[P, P] bool: two rows that show one picture, be it in two datasets or two epochs."""
        groups = self.group_ids()
        return groups[:, None] == groups

    def group_ids(self) -> Tensor:
        """[P] int64: 64 bits of each group, the same in every batch."""
        return _hashed(self.groups, "group").to(self.text_picture.device)

    def key_ids(self) -> Tensor:
        """[P] int64: 64 bits of each key and its dataset, the same in every batch."""
        return key_ids(self.keys, self.dataset).to(self.text_picture.device)

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch":
        """The same batch with every tensor on `device`.

        non_blocking: this batch must then be kept until the copies have ended, see batching/transfer.py.
        """
        moved: dict[str, Any] = {
            field.name: _move(getattr(self, field.name), device, non_blocking) for field in fields(self)
        }
        return Batch(**moved)

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor of the batch."""
        for value in vars(self).values():
            yield from value.values() if isinstance(value, dict) else [value] * isinstance(value, Tensor)


def key_ids(keys: Sequence[str], dataset: str) -> Tensor:
    """[N] int64: 64 bits of each of a dataset's keys."""
    return _hashed(keys, "key", dataset)


def _hashed(names: Sequence[str], *parts: str) -> Tensor:
    hashed = hash_keys(np.array([name.encode() for name in names], np.bytes_), *parts)
    return torch.from_numpy(hashed.view(np.int64))


def _move(value: object, device: torch.device, non_blocking: bool) -> object:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=non_blocking)
    if isinstance(value, dict):
        return {name: tensor.to(device, non_blocking=non_blocking) for name, tensor in value.items()}
    return value
