"""Python's garbage collector and the stream: which of the two looks at what."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def what_is_there_left_alone() -> Iterator[None]:
    """Inside, the collector passes over all objects that exist now; they outlive what follows anyway.

    Records are thousands of lists a second, and for each few thousand the collector would go through all that
    the imports left behind: as long as it takes to read the features.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
