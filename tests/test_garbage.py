"""Streams that overlap share one collector: the last to end gives it back what was there, and its pace."""

import gc

from training.batching.garbage import SELDOM, collecting_seldom


def test_the_last_one_out_ends_it() -> None:
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
