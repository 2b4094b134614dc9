"""Batches → the parts of each optimizer step.

A step is `rows` rows of the stream in `parts` parts, whatever of them can be read; of several processes each
has every world-th part, so a part holds the same rows in a world of any size.
"""

from collections.abc import Iterable, Iterator

from training.batch import Batch


def by_step(
    turns: Iterable[tuple[int, Batch | None]], position: int, rows: int, parts: int
) -> Iterator[dict[int, Batch]]:
    """This process's parts of each step from `position` on, by their number in the step.

    turns: of `Stream.turns`. A part of which nothing could be read is missing, and takes nothing from the
    next step.
    """
    found: dict[int, Batch] = {}
    for end, batch in turns:
        if batch is not None:
            found[(batch.position - position) * parts // rows - 1] = batch
        if end == position + rows:
            yield found
            found, position = {}, end
