"""Batches → the parts of each optimizer step.

A step is `rows` rows of the stream in `parts` parts, whatever of them can be read; of several processes each
has every world-th part, so a part holds the same rows in a world of any size.
"""

from collections.abc import Iterable, Iterator

from training.batch import Batch


def by_step(
    batches: Iterable[Batch], position: int, rows: int, parts: int, world: int = 1
) -> Iterator[dict[int, Batch]]:
    """This process's parts of each step from `position` on, by their number in the step.

    A part of which nothing could be read is missing, and takes nothing from the next step.
    """
    found: dict[int, Batch] = {}
    for batch in batches:
        while batch.position > position + rows:
            yield found
            found, position = {}, position + rows
        found[(batch.position - position) * parts // rows - 1] = batch
        if len(found) == parts // world:
            yield found
            found, position = {}, position + rows
