"""Vectors of earlier batches as further negatives: a ring for pictures and one for texts (MoCo, BLIP).

Slots that were never written are masked: BLIP's queue starts as random unit vectors that are used as real
negatives. Nothing here has a gradient; all of it is in the checkpoint.

Legend: K slots, B vectors, W width, T texts and P pictures of the batch, E names, M wordings.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from msgspec import Struct
from torch import Tensor, nn

from contract.errors import ParamsError
from training.config import Bank
from training.objectives.contrast import Identity, Vectors, owned

WORDINGS = 16  # of one picture or box in one slot; one of more takes another


class Ring(nn.Module):
    """K slots [K,W] with ids [K,I] beside them. written: vectors taken in so far; the next goes to written
    modulo K."""

    vectors: Tensor
    ids: Tensor
    written: Tensor

    def __init__(self, slots: int, width: int, ids: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(slots, width))
        self.register_buffer("ids", torch.zeros(slots, ids, dtype=torch.int64))
        self.register_buffer("written", torch.zeros((), dtype=torch.int64))

    @property
    def filled(self) -> Tensor:
        """[K] which slots hold something."""
        return torch.arange(len(self.vectors), device=self.written.device) < self.written

    @torch.no_grad()
    def enqueue(self, vectors_BW: Tensor, ids_BI: Tensor) -> None:
        """Take in a batch of any size, the oldest first overwritten; of more than K the last K remain."""
        slots, count = len(self.vectors), len(vectors_BW)
        skipped = max(0, count - slots)
        place = torch.arange(skipped, count, device=self.written.device)
        place = (self.written + place) % slots
        self.vectors[place] = vectors_BW[skipped:].to(self.vectors.dtype)
        self.ids[place] = ids_BI[skipped:]
        self.written += count


class More(Struct):
    """Further columns [K,W] as they are now, and which of them a row is not to be judged by [R,K]."""

    vectors: Tensor
    ignored: Tensor


def joined(parts: Sequence[More]) -> More | None:
    """Columns of several origins side by side, if there are any."""
    if not parts:
        return None
    return More(
        torch.cat([part.vectors for part in parts]), torch.cat([part.ignored for part in parts], dim=1)
    )


def in_slots(owner_E: Tensor, group_E: Tensor, words_E: Tensor) -> tuple[Tensor, Tensor]:
    """Each owner once: whose a slot is [B], and its ids [B,1+M], the group and all words that name it.

    What is left of a slot repeats one of the words.
    """
    owner, group, words = torch.stack([owner_E, group_E, words_E], dim=1).unique(dim=0).T.contiguous()
    number = torch.arange(len(owner), device=owner.device) - torch.searchsorted(owner, owner)  # of its words
    first = number % WORDINGS == 0
    ids = torch.stack([group, *[words] * WORDINGS], dim=1)[first]
    ids[first.cumsum(0) - 1, 1 + number % WORDINGS] = words
    return owner[first], ids


class MemoryBank(nn.Module):
    """The two rings. Ids of a picture: its group and the words of its texts; of a text: its picture's group
    and its words.
    """

    def __init__(self, slots: int, width: int) -> None:
        super().__init__()
        self.pictures, self.texts = Ring(slots, width, 1 + WORDINGS), Ring(slots, width, 2)

    def enqueue(self, keys: Vectors) -> None:
        """Pictures that have a text, and all texts."""
        of = keys.identity
        there, ids = in_slots(of.text_picture, of.text_group, of.words)
        self.pictures.enqueue(keys.picture[there], ids)
        self.texts.enqueue(keys.text, torch.stack([of.text_group, of.words], dim=1))

    def more_pictures(self, of: Identity) -> More:
        """Columns for texts: copies of a text's picture, and pictures of its words, are not judged [T,K]."""
        ring = self.pictures
        group = ring.ids[:, 0]
        true = (of.text_group[:, None] == group) | _named(of.words, ring.ids[:, 1:], group)
        return More(ring.vectors.clone(), true | ~ring.filled)

    def more_texts(self, of: Identity) -> More:
        """Columns for pictures: texts of a copy, and of words that a picture has, are not judged [P,K]."""
        ring = self.texts
        true = (of.group[:, None] == ring.ids[:, 0]) | owned(of, ring.ids[:, 1])
        return More(ring.vectors.clone(), true | ~ring.filled)


def _named(words_T: Tensor, words_KM: Tensor, group_K: Tensor) -> Tensor:
    """[T,K] whether a picture has a text of these words, in any of the slots that it or a copy takes."""
    said, text = words_T.unique(return_inverse=True)
    groups, number = group_K.unique(return_inverse=True)
    place = torch.searchsorted(said, words_KM.contiguous())
    slot, wording = ((F.pad(said, (0, 1))[place] == words_KM) & (place < len(said))).nonzero(as_tuple=True)
    names = torch.zeros(len(said), len(groups), dtype=torch.bool, device=said.device)
    names[place[slot, wording], number[slot]] = True
    return names[text][:, number]


def check(bank: Bank, place: str, most: int, of: str, steps: int) -> None:
    """Refuse a bank that would hold what a step looks at, or that no step of the run would use.

    place: where its settings stand. most: how many `of` what it keeps are trained on.
    """
    if bank.slots > most:
        raise ParamsError(
            f"{place}.slots",
            f"is larger than the set: the bank would hold {of} of this very batch",
            found=bank.slots,
            expected=f"at most {most}, the {of} trained on",
        )
    if bank.warmup >= steps:
        raise ParamsError(
            f"{place}.warmup",
            "is not over when the run ends: the bank would never be used",
            found=f"{bank.warmup} of {steps} optimizer steps",
            fix="a shorter warm-up, more epochs, or no bank",
        )
