"""Datasets that a run names: each has rows to train on."""

import numpy as np
import pytest

from contract.errors import ParamsError
from training.batching.eligible import Eligible, weigh


def rows(dataset: str, count: int) -> Eligible:
    return Eligible(dataset, np.zeros(count, np.uint32), np.arange(count, dtype=np.uint32), [count])


def test_a_named_dataset_without_a_row_to_train_on_is_an_error() -> None:
    found = [rows("gqa", 5), rows("coco", 0)]
    with pytest.raises(ParamsError, match=r"train\.datasets\.coco: has no picture"):
        weigh(found, 2, {"gqa": 1, "coco": 5}, "train")
    taken, weights = weigh(found, 2, {"gqa": 1, "coco": 5}, "development")
    assert ([of.dataset for of in taken], weights) == (["gqa"], [1])


def test_a_dataset_that_nobody_named_may_have_none() -> None:
    taken, weights = weigh([rows("gqa", 5), rows("coco", 0)], 2, {}, "train")
    assert ([of.dataset for of in taken], weights) == (["gqa"], [3])
