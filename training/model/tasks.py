"""Tasks: the head of each, and what it makes of a batch. A row each; the texts it takes stand in `needs`."""

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct
from torch import nn

from training.batch import Batch
from training.heads.cir import CirHead
from training.heads.itc import ItcHead
from training.heads.itm import BALANCED_WORTH, ItmHead
from training.heads.itm_pairs import SIDES
from training.heads.mfm import MfmHead
from training.heads.region import RegionHead
from training.heads.region_pairs import asking
from training.heads.vqa import VqaHead
from training.trunk.picture import Column


class Sizes(Struct, frozen=True):
    """What a head may be built from. answers: size of the answer vocabulary. grid: the column whose
    cells the picture tokens are, if the model looks at pictures.
    """

    hidden: int
    heads: int
    layers: int
    dropout: float
    answers: int
    grid: Column | None


class Task(Struct, frozen=True):
    """head: from the sizes and the task's own settings; calling it on (shared, batch) gives an Outcome.

    counts: how many each of its losses is a mean over; the parts of a step weigh by that. measures: those
    that can choose the best checkpoint, the higher the better; the first does by default. alone: it looks at
    pictures apart from any text; cells: it asks for tokens by their place, hidden or not. worth: how many
    right or wrong answers each thing that a measure counts stands for, where that is not one.
    """

    head: Callable[[Sizes, Any], nn.Module]
    counts: tuple[Callable[[Batch], int], ...]
    measures: tuple[str, ...]
    alone: bool = False
    cells: bool = False
    worth: Mapping[str, float] = {}


def answerable(batch: Batch) -> int:
    """Questions whose answer is in the vocabulary."""
    return int((batch.answer[batch.rows["vqa"]] >= 0).sum())


def named(batch: Batch) -> int:
    """Links of phrases and whole texts to boxes."""
    return len(batch.span_box) + len(batch.about)


def hidden(batch: Batch) -> int:
    """Tokens of the first column that the mask hides."""
    return int(next(iter(batch.hidden.values())).sum())


def _grid(sizes: Sizes) -> Column:
    assert sizes.grid is not None, "refused by task_checks"
    return sizes.grid


TASKS = {
    "vqa": Task(
        lambda sizes, options: VqaHead(
            sizes.hidden, sizes.heads, sizes.layers, sizes.answers, sizes.dropout, options.label_smoothing
        ),
        (answerable,),
        ("accuracy",),
    ),
    "itc": Task(
        lambda sizes, options: ItcHead(sizes.hidden, sizes.grid is not None and sizes.grid.cls, options),
        (lambda batch: len(batch.rows["itc"]),),
        ("picture_of_text", "text_of_picture"),
        alone=True,
    ),
    "itm": Task(
        lambda sizes, options: ItmHead(sizes.hidden, sizes.heads, sizes.layers, sizes.dropout, options),
        (lambda batch: len(batch.rows["itm"]),),
        ("balanced", *SIDES),
        alone=True,
        worth={"balanced": BALANCED_WORTH},
    ),
    "region": Task(
        lambda sizes, options: RegionHead(sizes.hidden, _grid(sizes), options),
        (named, asking),
        ("matching", "one_of_n"),
        alone=True,
        cells=True,
    ),
    "cir": Task(
        lambda sizes, options: CirHead(sizes.hidden, sizes.heads, sizes.layers, sizes.dropout, options),
        (lambda batch: len(batch.rows["cir"]),),
        ("R@1", "R_s@1"),
        alone=True,
    ),
    "mfm": Task(
        lambda sizes, _options: MfmHead(sizes.hidden, sizes.heads, sizes.layers, sizes.dropout, _grid(sizes)),
        (hidden,),
        ("explained",),
        alone=True,
        cells=True,
    ),
}
