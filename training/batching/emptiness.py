"""When to give up on shards of which nothing can be read, but which never end."""

from collections.abc import Sequence

from training.batching.mixture import Span


class Emptiness:
    """The rows of each dataset that gave nothing since one last did. rows: of each dataset, in an epoch.

    Of several processes each sees its own turns alone.
    """

    def __init__(self, rows: Sequence[int]) -> None:
        self._rows, self._empty = list(rows), [0] * len(rows)

    def everywhere(self, span: Span, empty: bool) -> bool:
        """Whether, after the batch of this span, each dataset has given nothing for an epoch of its own."""
        self._empty[span.dataset] = self._empty[span.dataset] + span.rows if empty else 0
        return all(gone >= rows for gone, rows in zip(self._empty, self._rows, strict=True))
