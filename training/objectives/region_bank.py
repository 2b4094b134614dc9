"""Boxes of earlier batches, and the phrases that named them, as further negatives of region.

Legend: K slots, E links, S phrases, R boxes, W width.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from msgspec import Struct
from torch import Tensor, nn

from training.distributed import ALONE, World
from training.objectives.memory_bank import More, Ring


class Links(Struct):
    """Which phrase names which box, in all batches alike. phrase, box [E] into S and R; group [E]: of the
    picture; words [E]: an id of the phrase's words.
    """

    phrase: Tensor
    box: Tensor
    group: Tensor
    words: Tensor

    @property
    def ids(self) -> Tensor:
        """[E,2]."""
        return torch.stack([self.group, self.words], dim=1)


class Ends(NamedTuple):
    """The two ends of links: ids [E,2] and vectors [E,W]."""

    ids: Tensor
    phrase: Tensor
    box: Tensor


class RegionBank(nn.Module):
    """Two rings, a slot for each link: a box beside the words that name it.

    A phrase is not judged by boxes of its own words, nor by those of its own picture, which may be its very
    box under another name.
    """

    def __init__(self, slots: int, width: int) -> None:
        super().__init__()
        self.boxes, self.phrases = Ring(slots, width, 2), Ring(slots, width, 2)
        self._seen: list[Ends] = []

    def see(self, links: Links, phrase_SW: Tensor, box_RW: Tensor) -> None:
        """Both ends of every link of a part of the step, to be taken in when the step is over."""
        phrase, box = phrase_SW.detach()[links.phrase], box_RW.detach()[links.box]
        self._seen.append(Ends(links.ids, phrase, box))

    def take_in(self, parts: Sequence[int] = (0,), of: int = 1, world: World = ALONE) -> None:
        """What was seen in the step, in the order of its parts, on all processes the same.

        parts: the numbers of those that were seen here, of so many of the step.
        """
        seen = dict(zip(parts, self._seen, strict=True))
        counts = torch.zeros(of, dtype=torch.int64)
        for number, ends in seen.items():
            counts[number] = len(ends.ids)
        world.add(counts)
        none = Ends(self.boxes.ids[:0], self.phrases.vectors[:0], self.boxes.vectors[:0])
        ids, phrase, box = (
            world.join({number: ends[column] for number, ends in seen.items()}, counts.tolist(), empty)
            for column, empty in enumerate(none)
        )
        self.boxes.enqueue(box, ids)
        self.phrases.enqueue(phrase, ids)
        self._seen.clear()

    def more_boxes(self, links: Links, phrases: int) -> More:
        """Columns for so many phrases."""
        return _more(self.boxes, links, links.phrase, phrases)

    def more_phrases(self, links: Links, boxes: int) -> More:
        """Columns for so many boxes."""
        return _more(self.phrases, links, links.box, boxes)


def _more(ring: Ring, links: Links, row_E: Tensor, rows: int) -> More:
    """The ring as columns; a row is not judged by what is like any of its links."""
    alike = (links.ids[:, None] == ring.ids).any(2)
    times = torch.zeros(rows, len(ring.ids), dtype=torch.int32, device=alike.device)
    times.index_add_(0, row_E, alike.int())
    return More(ring.vectors.clone(), (times > 0) | ~ring.filled)
