"""What each task takes from the stream: which texts, and whether regions, targets or negatives."""

from collections.abc import Callable

from msgspec import Struct

from contract.errors import unknown_name
from contract.index import is_cir, is_pair, is_region, is_vqa
from contract.record import Text

TAKES = {  # contract.index.COUNTED → its texts, in words
    "vqa": "questions with an answer",
    "pairs": "statements or captions",
    "region": "texts with a box",
    "cir": "edits with a target",
}


class Need(Struct, frozen=True):
    """counted: the index's count of usable texts (contract.index.COUNTED); None: the task takes no text.

    usable: the same, of one text. masked: what the mask hides is asked, so held-out pictures are masked too.
    swaps, near: changed texts that are false, and mined ones of other pictures, are asked for. by_key: what
    edits name is told by its keys alone, and not read.
    """

    counted: str | None
    usable: Callable[[Text], bool]
    regions: bool = False
    targets: bool = False
    by_key: bool = False
    masked: bool = False
    swaps: bool = False
    near: bool = False

    @property
    def takes(self) -> str:
        """What an error says that the task takes."""
        return TAKES[self.counted] if self.counted else "pictures"


NEEDS = {
    "vqa": Need("vqa", is_vqa),
    "itc": Need("pairs", is_pair),
    "itm": Need("pairs", is_pair, swaps=True, near=True),
    "region": Need("region", is_region, regions=True, swaps=True),
    "cir": Need("cir", is_cir, targets=True),
    "mfm": Need(None, lambda _text: False, masked=True),
}


def need(task: str) -> Need:
    """The row of a task, or the error that lists them."""
    if task not in NEEDS:
        raise unknown_name("train.tasks", "task", task, NEEDS)
    return NEEDS[task]
