"""What is contrasted: vectors of texts and pictures, and which pairs are positive or not to be judged.

Legend: T texts, P pictures, C columns, W width.
"""

from collections.abc import Sequence

import torch
from msgspec import Struct
from torch import Tensor

from training.batch import Batch


class Identity(Struct):
    """Whose is what. text_picture [T] into P; group [P] and words [T]: ids that are equal for copies of a
    picture and for texts of the same words, in every batch.
    """

    text_picture: Tensor
    group: Tensor
    words: Tensor

    @property
    def text_group(self) -> Tensor:
        """[T] the group of each text's picture."""
        return self.group[self.text_picture]


class Vectors(Struct):
    """Unit vectors: text [T,W], picture [P,W]."""

    text: Tensor
    picture: Tensor
    identity: Identity


class Contrasted(Struct):
    """online: with gradient. keys: what they are compared with, the momentum encoder's or the same. scale:
    of their cosines. bias: of the logits, where each pair is judged by itself.
    """

    online: Vectors
    keys: Vectors
    scale: Tensor
    bias: Tensor | None = None


def identify(batch: Batch, rows: Tensor) -> Identity:
    """Of these texts of a batch, and of all its pictures."""
    return Identity(batch.text_picture[rows], batch.group_ids(), batch.words[rows])


def positives(of: Identity) -> Tensor:
    """[T,P] whether a text hangs on a picture."""
    return of.text_picture[:, None] == torch.arange(len(of.group), device=of.group.device)


def unjudged(of: Identity) -> Tensor:
    """[T,P] pairs that may well be true: copies of the text's picture, pictures with a text of its words."""
    return (of.text_group[:, None] == of.group) | owned(of, of.words).T


def owned(of: Identity, words_C: Tensor) -> Tensor:
    """[P,C] whether a picture has a text of these words."""
    table = torch.zeros(len(of.group), len(words_C), dtype=torch.bool, device=words_C.device)
    text, column = (of.words[:, None] == words_C).nonzero(as_tuple=True)
    table[of.text_picture[text], column] = True
    return table


def join(parts: Sequence[Vectors]) -> Vectors:
    """The vectors of the parts of a step, as if they had come in one batch."""
    starts = torch.tensor([0, *(len(part.picture) for part in parts)]).cumsum(0).tolist()
    owners = [part.identity.text_picture + start for part, start in zip(parts, starts, strict=False)]
    identity = Identity(
        torch.cat(owners),
        torch.cat([part.identity.group for part in parts]),
        torch.cat([part.identity.words for part in parts]),
    )
    text, picture = [part.text for part in parts], [part.picture for part in parts]
    return Vectors(torch.cat(text), torch.cat(picture), identity)
