"""Boxes of earlier batches, and the phrases that named them, as further negatives of region.

Legend: K slots, E links, S phrases, R boxes, B slots that a part fills, M wordings, W width.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from msgspec import Struct
from torch import Tensor, nn

from training.distributed import ALONE, World
from training.objectives.memory_bank import WORDINGS, More, Ring, in_slots


class Links(Struct):
    """Which phrase names which box, in all batches alike. phrase, box [E] into S and R; group [E]: of the
    picture; words [E]: an id of the phrase's words.
    """

    phrase: Tensor
    box: Tensor
    group: Tensor
    words: Tensor


class Filled(NamedTuple):
    """What goes into a ring: ids [B,1+M], a group and wordings of it, and vectors [B,W]."""

    ids: Tensor
    vectors: Tensor


class RegionBank(nn.Module):
    """Two rings: boxes, each beside all words that name it, and phrases, one of each wording of a picture.

    A phrase is not judged by boxes of its own words, nor by those of its own picture, which may be its very
    box under another name.
    """

    def __init__(self, slots: int, width: int) -> None:
        super().__init__()
        self.boxes, self.phrases = Ring(slots, width, 1 + WORDINGS), Ring(slots, width, 2)
        self._seen: list[tuple[Filled, Filled]] = []

    def see(self, links: Links, phrase_SW: Tensor, box_RW: Tensor) -> None:
        """What is linked in a part of the step, to be taken in when the step is over."""
        self._seen.append((_boxes(links, box_RW.detach()), _phrases(links, phrase_SW.detach())))

    def take_in(self, parts: Sequence[int] = (0,), of: int = 1, world: World = ALONE) -> None:
        """What was seen in the step, in the order of its parts, on all processes the same.

        parts: the numbers of those that were seen here, of so many of the step.
        """
        for number, ring in enumerate((self.boxes, self.phrases)):
            seen = {part: found[number] for part, found in zip(parts, self._seen, strict=True)}
            _enqueue(ring, seen, of, world)
        self._seen.clear()

    def more_boxes(self, links: Links, phrases: int) -> More:
        """Columns for so many phrases."""
        return _more(self.boxes, links, links.phrase, phrases)

    def more_phrases(self, links: Links, boxes: int) -> More:
        """Columns for so many boxes."""
        return _more(self.phrases, links, links.box, boxes)


def _boxes(links: Links, box_RW: Tensor) -> Filled:
    """Each linked box once, with its group and wordings."""
    box, ids = in_slots(links.box, links.group, links.words)
    return Filled(ids, box_RW[box])


def _phrases(links: Links, phrase_SW: Tensor) -> Filled:
    """The first phrase of each wording of a picture."""
    ids, wording = torch.stack([links.group, links.words], dim=1).unique(dim=0, return_inverse=True)
    none = wording.new_full((len(ids),), len(phrase_SW))
    return Filled(ids, phrase_SW[none.scatter_reduce(0, wording, links.phrase, "amin")])


def _enqueue(ring: Ring, seen: Mapping[int, Filled], of: int, world: World) -> None:
    counts = torch.zeros(of, dtype=torch.int64)
    for part, found in seen.items():
        counts[part] = len(found.ids)
    world.add(counts)
    ids, vectors = (
        world.join({part: found[column] for part, found in seen.items()}, counts.tolist(), empty)
        for column, empty in enumerate(Filled(ring.ids[:0], ring.vectors[:0]))
    )
    ring.enqueue(vectors, ids)


def _more(ring: Ring, links: Links, row_E: Tensor, rows: int) -> More:
    """The ring as columns; a row is not judged by what is like any of its links."""
    group, *wordings = ring.ids.unbind(1)
    alike = links.group[:, None] == group
    for words in wordings:
        alike |= links.words[:, None] == words
    times = torch.zeros(rows, len(ring.ids), dtype=torch.int32, device=alike.device)
    times.index_add_(0, row_E, alike.int())
    return More(ring.vectors.clone(), (times > 0) | ~ring.filled)
