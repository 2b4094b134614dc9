"""Python's garbage collector and the stream: which of the two looks at what."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock


class _Inside:
    """How many are inside, of all threads: what is frozen is frozen for the whole process."""

    def __init__(self) -> None:
        self.many, self.lock = 0, Lock()


_inside = _Inside()


@contextmanager
def what_is_there_left_alone() -> Iterator[None]:
    """Inside, the collector passes over all objects that exist now; they outlive what follows anyway.

    Records are thousands of lists a second, and for each few thousand the collector would go through all that
    the imports left behind: as long as it takes to read the features. The last one out ends it for all.
    """
    with _inside.lock:
        _inside.many += 1
        gc.freeze()
    try:
        yield
    finally:
        with _inside.lock:
            _inside.many -= 1
            if not _inside.many:
                gc.unfreeze()
