"""Python's garbage collector and the stream: which of the two looks at what, and how often."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

SELDOM = 10_000  # objects between two looks; Python's 700 are a few records, which are alive at each


class _Inside:
    """How many are inside, of all threads: what is set is set for the whole process."""

    def __init__(self) -> None:
        self.many, self.lock = 0, Lock()
        self.often, self.frozen = gc.get_threshold(), 0


_inside = _Inside()


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """Inside, the collector passes over all objects that exist when the first one enters, which outlive what
    follows anyway, and looks seldom at those that come.

    Records are thousands of lists a second: at its usual pace it would go through all that the imports left
    behind, and through records that are still wanted, for as long as it takes to read the features. The last
    one out ends it for all.
    """
    with _inside.lock:
        if not _inside.many:
            _inside.often, _inside.frozen = gc.get_threshold(), gc.get_freeze_count()
            if not _inside.frozen:  # else what somebody else froze stays so, and nothing is added to it
                gc.freeze()
            gc.set_threshold(SELDOM, *_inside.often[1:])
        _inside.many += 1
    try:
        yield
    finally:
        with _inside.lock:
            _inside.many -= 1
            if not _inside.many:
                gc.set_threshold(*_inside.often)
                if not _inside.frozen:
                    gc.unfreeze()
