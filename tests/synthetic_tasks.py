"""Records of `synthetic` with what the tasks region and cir take. Use as `synthetic.build(…, change=…)`."""

import synthetic
from msgspec.structs import replace
from synthetic import GRID, WORDS, cell, key

from contract.record import NegText, Record, Regions, Text

SIDES, HEIGHTS = ("left", "right"), ("top", "bottom")
SET = 4  # pictures whose numbers give one image set


def quadrant(cell: int) -> str:
    """Words for the place of a cell: "left top"."""
    row, column = divmod(cell, GRID)
    return f"{SIDES[column >= GRID // 2]} {HEIGHTS[row >= GRID // 2]}"


def mirrored(cell: int) -> int:
    """The cell that is the same one turned by half a circle."""
    return GRID**2 - 1 - cell


def box(cell: int) -> tuple[float, float, float, float]:
    """All of the picture's cell."""
    row, column = divmod(cell, GRID)
    return (column / GRID, row / GRID, (column + 1) / GRID, (row + 1) / GRID)


def tokens(text: str) -> list[int]:
    """Ids of the words."""
    return [WORDS.index(word) for word in text.split()]


def phrase(id: str, region: int, words: str, negatives: int = 3) -> Text:
    """A whole text about a region, with the other three quadrants as what is false of it."""
    others = [f"{side} {height}" for side in SIDES for height in HEIGHTS]
    others.remove(words)
    given = [NegText(text=other, tokens=tokens(other), kind="given") for other in others[:negatives]]
    return Text(id=id, role="phrase", text=words, tokens=tokens(words), about=[region], negatives=given)


def with_phrases(number: int, record: Record) -> Record:
    """Two regions: the bright cell and the opposite one, each named by its quadrant."""
    places = [cell(number), mirrored(cell(number))]
    regions = Regions(id=["a", "b"], box=[box(place) for place in places], name=["cell", "cell"])
    made = [phrase(f"{number}-{row}", row, quadrant(place)) for row, place in enumerate(places)]
    return replace(record, regions=regions, texts=made)


def with_edits(number: int, record: Record) -> Record:
    """An edit that says in which quadrant its target is bright: the next picture of its set of four."""
    first = number - number % SET
    members = [n for n in range(first, first + SET) if n != number]
    target = members[0]
    words = quadrant(synthetic.cell(target))
    edit = Text(
        id=f"{number}-edit",
        role="edit",
        text=words,
        tokens=tokens(words),
        target=[key(target)],
        members=[key(n) for n in members],
    )
    return replace(record, texts=[edit])
