"""Streams that overlap share one collector: the last to end gives it back what was there, and its pace."""

import gc
import weakref

from training.batching import garbage
from training.batching.garbage import SELDOM, collecting_seldom


def test_the_last_one_out_ends_it(monkeypatch) -> None:
    monkeypatch.setattr(garbage, "_inside", garbage._Inside())  # whatever streams of others are still open
    gc.unfreeze()
    often = gc.get_threshold()
    first, second = collecting_seldom(), collecting_seldom()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert gc.get_freeze_count() > 0
    assert gc.get_threshold() == (SELDOM, *often[1:])
    second.__exit__(None, None, None)
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == often


def test_what_is_dropped_between_two_streams_is_collected() -> None:
    class Dropped:
        pass

    with collecting_seldom():
        dropped = Dropped()
        dropped.itself = dropped
        gone = weakref.ref(dropped)
        del dropped
        with collecting_seldom():
            gc.collect()
            assert gone() is None


def test_what_somebody_else_has_frozen_stays_so() -> None:
    gc.freeze()
    theirs, newer = gc.get_freeze_count(), [[] for _ in range(1000)]
    with collecting_seldom():
        assert 0 < gc.get_freeze_count() <= theirs  # nothing is added to it; what dies leaves it
    assert 0 < gc.get_freeze_count() <= theirs
    gc.unfreeze()
    assert len(newer) == 1000
