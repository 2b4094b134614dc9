"""The vectors of all parts of a step, on every process, in the order of the parts."""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

import torch
from msgspec import Struct

from training.distributed import World
from training.objectives.contrast import Identity, Vectors


class Size(Struct, frozen=True):
    """How much of a part is contrasted."""

    texts: int
    pictures: int


class Rows(Struct, frozen=True):
    """Where a part lies in the whole."""

    texts: slice
    pictures: slice


def rows(sizes: Sequence[Size]) -> list[Rows]:
    """Of each part, one after another."""
    texts = accumulate((size.texts for size in sizes), initial=0)
    pictures = accumulate((size.pictures for size in sizes), initial=0)
    return [Rows(slice(*t), slice(*p)) for t, p in zip(pairwise(texts), pairwise(pictures), strict=True)]


def gather(
    parts: Mapping[int, Vectors], sizes: Sequence[Size], width: int, device: torch.device, world: World
) -> Vectors:
    """The whole, from this process's parts by their number. sizes: of every part of the step."""
    texts, pictures = [size.texts for size in sizes], [size.pictures for size in sizes]
    vectors, ids = torch.zeros(0, width, device=device), torch.zeros(0, dtype=torch.int64, device=device)
    of = {number: part.identity for number, part in parts.items()}
    place = rows(sizes)
    owners = {number: one.text_picture + place[number].pictures.start for number, one in of.items()}
    return Vectors(
        world.join({number: part.text for number, part in parts.items()}, texts, vectors),
        world.join({number: part.picture for number, part in parts.items()}, pictures, vectors),
        Identity(
            world.join(owners, texts, ids),
            world.join({number: one.group for number, one in of.items()}, pictures, ids),
            world.join({number: one.words for number, one in of.items()}, texts, ids),
        ),
    )
