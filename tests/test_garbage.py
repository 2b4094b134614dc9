"""Streams that overlap share one collector: the last to end gives it back what was there."""

import gc

from training.batching.garbage import what_is_there_left_alone


def test_the_last_one_out_ends_it() -> None:
    gc.unfreeze()
    first, second = what_is_there_left_alone(), what_is_there_left_alone()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert gc.get_freeze_count() > 0
    second.__exit__(None, None, None)
    assert gc.get_freeze_count() == 0
