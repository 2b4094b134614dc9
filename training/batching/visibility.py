"""What of a batch's pictures may be seen: a mask per picture and epoch, projected onto every column."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from contract.geometry import affine
from contract.manifest import FeatureManifest
from contract.record import Record
from contract.seeds import rng
from training.batching import masking
from training.batching.masking import Visible
from training.batching.plan import Plan
from training.shards import Place

NOTHING_HIDDEN = np.ones(1, np.bool_)  # a lattice of one cell
SIZES = 4096  # of pictures, whose unmasked tokens are kept


class Visibility:
    """Masks of one kind over these columns, whose first has the grid on which they are drawn."""

    def __init__(self, columns: Mapping[str, FeatureManifest], kind: str, seed: int) -> None:
        self._columns, self._kind, self._seed = columns, kind, seed
        self._lattice = next((known.grid for known in columns.values()), 1)
        self._unmasked = lru_cache(maxsize=SIZES)(self._without_mask)

    def of(self, plan: Plan, ratio: float, absent: Callable[[Place, str], bool]) -> dict[str, Any]:
        """`visible` and `hidden` [P, N] of every column. ratio: the share to hide."""
        drawn = [
            self._drawn(ratio, epoch, record, key) if ratio else None
            for epoch, record, key in zip(plan.epochs, plan.records, plan.keys, strict=True)
        ]
        visible, hidden = {}, {}
        for name in self._columns:
            there = np.array([[not absent(place, name)] for place in plan.places])
            seen, masked = zip(*map(lambda *of: self._projected(name, *of), plan.records, drawn), strict=True)
            visible[name] = torch.from_numpy(np.stack(seen) & there)
            hidden[name] = torch.from_numpy(np.stack(masked) & there)
        return {"visible": visible, "hidden": hidden}

    def _drawn(self, ratio: float, epoch: int, record: Record, key: str) -> Visible:
        """The mask of a picture in an epoch, in picture coordinates."""
        boxes = np.array(record.regions.box, np.float64).reshape(-1, 4)
        return masking.draw(self._kind, rng(self._seed, "mask", epoch, key), self._lattice, ratio, boxes)

    def _projected(self, name: str, record: Record, drawn: Visible | None) -> tuple[Visible, Visible]:
        """A mask on a column's tokens. None hides nothing, and is the same for all pictures of one size."""
        if drawn is None:
            return self._unmasked(name, record.width, record.height)
        known = self._columns[name]
        into = affine(known.transform, record.width, record.height)
        return masking.project(drawn, self._lattice, into, known.grid, known.cls)

    def _without_mask(self, name: str, width: int, height: int) -> tuple[Visible, Visible]:
        known = self._columns[name]
        into = affine(known.transform, width, height)
        return masking.project(NOTHING_HIDDEN, 1, into, known.grid, known.cls)
