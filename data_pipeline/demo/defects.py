"""What is planted, and what the pipeline must find: reasons and outcomes as the findings tables name them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

T = TypeVar("T")


@dataclass(frozen=True, order=True)
class Defect:
    """One expected finding."""

    dataset: str
    table: str
    id: str
    reason: str
    outcome: str


@dataclass
class Ledger:
    """The defects of a world. share: of the full-size counts that this world plants, at least one of each."""

    share: float
    defects: list[Defect] = field(default_factory=list)

    def count(self, full: int) -> int:
        """How many to plant of a kind that a full-size world has `full` of."""
        return max(1, round(full * min(1.0, self.share)))

    def add(self, dataset: str, table: str, ids: Iterable[str], reason: str, outcome: str) -> None:
        """Expect this finding for each of the ids."""
        self.defects += [Defect(dataset, table, one, reason, outcome) for one in ids]

    def content(self) -> dict[str, Any]:
        """defects.json: the sorted list, and counts by "<dataset>/<reason>/<outcome>"."""
        found = sorted(self.defects)
        counts = Counter(f"{defect.dataset}/{defect.reason}/{defect.outcome}" for defect in found)
        return {"defects": [asdict(defect) for defect in found], "counts": dict(sorted(counts.items()))}


class Victims(Generic[T]):
    """Healthy things in random order, each handed out once: no two defects meet."""

    def __init__(self, healthy: Iterable[T], random: np.random.Generator) -> None:
        candidates = list(healthy)
        self._left = [candidates[number] for number in random.permutation(len(candidates)).tolist()]

    def peek(self) -> list[T]:
        """Those left, in the order in which they are handed out."""
        return list(self._left)

    def remove(self, one: T) -> None:
        """Hand out this one, out of turn."""
        self._left.remove(one)

    def take(self, count: int) -> list[T]:
        """The next `count` of them."""
        assert len(self._left) >= count, "the world is too small for its defects: see world.check_size"
        taken, self._left = self._left[:count], self._left[count:]
        return taken


@dataclass
class Spoiled:
    """What happens to picture files after they are drawn; paths in the world's folder."""

    missing: set[str] = field(default_factory=set)
    truncated: set[str] = field(default_factory=set)
    copied: dict[str, str] = field(default_factory=dict)  # copy → original, byte for byte
    encoded: dict[str, str] = field(default_factory=dict)  # copy → original, as a JPEG of another quality
