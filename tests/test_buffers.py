"""Buffers: memory comes back when nothing refers to it, and not a moment earlier."""

import numpy as np
import synthetic
import torch

from training.reading.buffers import STEP, Buffers
from training.shards import open_shards
from training.stream import Stream


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_is_used_again_only_when_the_last_view_is_gone():
    pool = Buffers()
    tensor = torch.from_numpy(pool.array((3, 4), "float32"))
    place, row = tensor.data_ptr(), tensor[1]
    del tensor
    other = pool.array((3, 4), "float32")
    assert address(other) != place
    row.fill_(7)
    assert not (other == 7).all()
    del row
    assert address(pool.array((2, 2), "int8")) == place


def test_a_larger_batch_gets_larger_memory():
    pool = Buffers()
    pool.array((10,), "int8")
    assert pool.array((STEP + 1,), "int8").shape == (STEP + 1,)


def test_an_empty_batch_has_an_array_too():
    assert Buffers().array((0, 5), "float16").shape == (0, 5)


def test_a_stream_needs_memory_for_the_batches_ahead_and_two_more(tmp_path, monkeypatch):
    made, fresh = [], Buffers._fresh
    monkeypatch.setattr(Buffers, "_fresh", lambda pool, size: made.append(size) or fresh(pool, size))
    synthetic.build(tmp_path)
    stream = Stream(open_shards([str(tmp_path / "data")], ["vit"]), ["vqa"], batch=4, ahead=3, stop=120)
    assert sum(len(batch.keys) for batch in stream) == 120
    assert len(made) <= 3 + 2
