"""Tables between stages: what a row of each is, and how many rows came and went.

Nothing leaves a table without a finding: rows read = rows kept + rows rejected, asserted when a stage ends.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

Outcome = Literal["reject", "repair", "flag"]
TABLES = ("images", "texts", "regions", "entities")
# A row lost because of another row. The report counts these apart from what is wrong by itself.
CASCADES = ("picture_rejected", "text_rejected", "region_rejected", "target_rejected", "member_rejected")


class Image(NamedTuple):
    """A picture that a dataset declares."""

    picture: str
    file: str  # relative to the dataset's folder
    split: str  # "" where the dataset has no official splits
    width: int | None  # as declared, pixels
    height: int | None
    source_ids: list[str]  # "vg:2375429", "coco:285": the same id is the same photograph
    drop: int  # its number in params.yaml
    source_file: str  # relative to the dataset's folder
    position: str  # JSON pointer into source_file


class NegativeText(NamedTuple):
    """A text that the dataset says is false of the picture."""

    text: str
    kind: str


class Text(NamedTuple):
    """A text that hangs on a picture."""

    text: str  # its id, unique in the dataset
    picture: str
    role: str  # contract.record.Role
    content: str  # as the source has it: nothing stripped
    answer: str | None
    type: str  # "query/attr", "" if none
    target: list[str]  # pictures: the hard target, then soft ones
    members: list[str]  # pictures of the image set, without the reference
    about: list[str]  # regions that the whole text describes
    negatives: list[NegativeText]
    split: str  # of the file that it stands in; "" where the dataset has no official splits
    drop: int
    source_file: str
    position: str


class Region(NamedTuple):
    """A box of a picture, top-left, 0-based: in pixels of the declared picture, unless `normalised`."""

    picture: str
    region: str  # its id, unique in the picture
    x: float
    y: float
    w: float
    h: float
    name: str
    attributes: list[str]
    crowd: bool
    mask: list[float]  # x, y, w, h of the box around its mask; empty where it has none
    drop: int
    source_file: str
    position: str
    normalised: bool = False  # x, y, w, h are shares of a picture whose size the dataset does not declare


class Entity(NamedTuple):
    """A phrase inside a text. start and end are -1 where the source's span has no place in the text."""

    text: str
    start: int  # characters of content, half-open
    end: int
    span: str  # the span as the source writes it; with `text` it identifies the entity
    name: str | None  # what the source says the characters spell, if it does
    regions: list[str]
    source: str  # "annotated" or "matched"
    drop: int  # of its text too: ids of texts repeat in other drops
    source_file: str
    position: str


class Finding(NamedTuple):
    """Something wrong with one row of a table, and what was done about it."""

    table: str
    id: str  # images "<picture>", texts "<text>", regions "<picture>/<region>", entities "<text>/<span>"
    outcome: Outcome
    reason: str
    detail: str
    record: str  # JSON
    file: str
    position: str


class PassedOver(NamedTuple):
    """Sound records that a reader leaves out on purpose."""

    table: str
    number: int
    why: str


Row = Image | Text | Region | Entity | Finding


class Block(NamedTuple):
    """Many rows of one of ROWS at once, for files with millions of them.

    rows: cells of `columns`. A column that is not among them has one value in all rows: in `shared`, else the
    default of `kind`.
    """

    kind: type[Row]
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    shared: Mapping[str, Any]


Given = Row | Block | PassedOver  # what a reader yields

ROWS: dict[str, type[tuple[Any, ...]]] = {
    "images": Image,
    "texts": Text,
    "regions": Region,
    "entities": Entity,
}


class Account:
    """counts.json of a stage: per table, rows read = rows kept + rows rejected.

    `passed_over`, in stage read: records of the raw files that are none of these, by why. `added`, in stage
    spans: rows read that no stage before kept, because it found them itself.
    """

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, Any]] = {}

    def add(self, table: str, read: int, kept: int, rejected: int) -> None:
        assert read == kept + rejected, f"{table}: {read} rows read, {kept} kept + {rejected} rejected"
        self._counts[table] = {"read": read, "kept": kept, "rejected": rejected}

    def pass_over(self, table: str, counted: Mapping[str, int]) -> None:
        self._counts[table]["passed_over"] = dict(counted)

    def state_added(self, table: str, added: int) -> None:
        self._counts[table]["added"] = added

    def write(self, folder: Path) -> None:
        (folder / "counts.json").write_text(json.dumps(self._counts, indent=1) + "\n")

    def summary(self) -> str:
        """One line for the console."""
        parts = [f"{table} {row['kept']:,}" + _lost(row["rejected"]) for table, row in self._counts.items()]
        return ", ".join(parts)


def _lost(rejected: int) -> str:
    return f" (-{rejected:,})" if rejected else ""
