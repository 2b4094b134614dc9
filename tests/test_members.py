"""Members read straight into a batch: the numbers that were written, or an error that names the member."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from contract import codec, index, tar
from contract.errors import ShardError
from data_pipeline.shards.shard_writer import Sample, write_shard
from training.reading.members import Member, Reader, Rows
from training.reading.tars import OpenTar, Tars

Array = np.ndarray


def shard(folder: Path, written: list[Array]) -> Member:
    """A tar of these arrays, opened."""
    path = folder / "some.tar"
    samples = (Sample(f"{n:04d}", [codec.encode_array(array)]) for n, array in enumerate(written))
    write_shard(path, ["vit.npy"], samples)
    return Member(path, index.load(path), "vit.npy")


@st.composite
def batches(draw: st.DrawFn) -> Array:
    """[P, N, D] of a type that a column may have; any bits."""
    shape = draw(arrays.array_shapes(min_dims=3, max_dims=3, max_side=6))
    bits = draw(arrays.arrays(np.uint8, (*shape, 4)))
    dtype = draw(st.sampled_from(codec.DTYPES))
    return bits.view("<u4")[..., 0].astype(f"u{np.dtype(dtype).itemsize}").view(dtype)


@given(batches(), st.randoms())
def test_rows_hold_the_bytes_that_were_written_whatever_the_order(tmp_path_factory, written, random):
    member = shard(tmp_path_factory.mktemp("rows"), list(written))
    rows = Rows(np.full_like(written, 1))
    order = list(range(len(written)))
    random.shuffle(order)
    for row in order:
        Reader(Tars()).array(member, row, rows, row)
    assert rows.array.tobytes() == written.tobytes()


def test_any_flipped_bit_of_an_extent_is_noticed_and_its_member_named(tmp_path):
    numbers = np.arange(30, dtype=np.float16).reshape(3, 10)
    member = shard(tmp_path, [numbers, numbers])
    extent = tar.BLOCK + tar.padded(member.size.item(1))
    rows, reader = Rows(np.zeros((1, 3, 10), np.float16)), Reader(Tars())
    descriptor = os.open(member.path, os.O_RDWR)
    for at in range(member.offset.item(1), member.offset.item(1) + extent):
        (byte,) = os.pread(descriptor, 1, at)
        os.pwrite(descriptor, bytes([byte ^ 1 << at % 8]), at)
        with pytest.raises(ShardError, match=r"member 0001\.vit\.npy is damaged"):
            reader.array(member, 1, rows, 0)
        os.pwrite(descriptor, bytes([byte]), at)
    os.close(descriptor)
    reader.array(member, 1, rows, 0)
    assert (rows.array == numbers).all()


@pytest.mark.parametrize(
    "other",
    [
        np.zeros((10, 3), np.float16),
        np.zeros((3, 10), np.int16).view(np.float16)[:2],
        np.zeros((3, 20), np.int8),
        np.zeros((3, 5), np.float32),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_another_shape_or_type_is_refused_also_after_one_that_fits(tmp_path, other):
    member = shard(tmp_path, [np.ones((3, 10), np.float16), other])
    rows, reader = Rows(np.zeros((2, 3, 10), np.float16)), Reader(Tars())
    reader.array(member, 0, rows, 0)
    with pytest.raises(ShardError, match=r"0001\.vit\.npy: is not of the column's shape"):
        reader.array(member, 1, rows, 1)


@given(st.integers(100, 4000))
def test_a_read_that_the_system_cuts_short_goes_on(tmp_path_factory, most):
    numbers = np.arange(3000, dtype=np.int8).reshape(3, 1000)
    member = shard(tmp_path_factory.mktemp("short"), [numbers])
    rows, whole = Rows(np.zeros((1, 3, 1000), np.int8)), os.preadv

    def short(descriptor: int, parts: Sequence[bytearray | memoryview], offset: int) -> int:
        content = os.pread(descriptor, most, offset)
        return whole(descriptor, list(_first(parts, len(content))), offset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "preadv", short)
        Reader(Tars()).array(member, 0, rows, 0)
    assert (rows.array == numbers).all()


def _first(parts: Sequence[bytearray | memoryview], size: int) -> Iterator[memoryview]:
    """Only so many bytes of these buffers."""
    for part in parts:
        yield memoryview(part)[:size]
        size = max(0, size - len(part))


def test_a_tar_that_ends_inside_a_member_is_cut(tmp_path):
    member = shard(tmp_path, [np.ones((3, 10), np.float16)])
    os.truncate(member.path, tar.BLOCK + 100)
    with pytest.raises(ShardError, match=f"is cut at byte {tar.BLOCK + 100}"):
        Reader(Tars()).payload(member, 0)


def test_an_announced_tar_stays_open_until_the_system_was_told(tmp_path, monkeypatch):
    """Other threads may open so many others meanwhile that this one is forgotten."""
    member, tars, told = shard(tmp_path, [np.ones((3, 10), np.float16)]), Tars(), []
    monkeypatch.setattr(tars, "open", lambda path: OpenTar(os.open(path, os.O_RDONLY)))
    monkeypatch.setattr(os, "posix_fadvise", lambda descriptor, *_: told.append(os.fstat(descriptor).st_ino))
    Reader(tars).announce(member, 0)
    assert told == [member.path.stat().st_ino]


def test_advice_that_the_system_refuses_is_no_error(tmp_path, monkeypatch):
    member = shard(tmp_path, [np.ones((3, 10), np.float16)])
    refused = Mock(side_effect=OSError(29, "Illegal seek"))
    monkeypatch.setattr(os, "posix_fadvise", refused)
    reader = Reader(Tars())
    reader.announce(member, 0)
    assert refused.called
    assert len(reader.payload(member, 0)) > 0  # and the member is read as ever


def test_what_a_thread_spent_goes_to_the_meter_at_its_end(tmp_path):
    member, tars = shard(tmp_path, [np.ones((3, 10), np.float16)]), Tars()
    with Reader(tars) as reader:
        reader.payload(member, 0)
        assert tars.meter.seconds["disk"] == 0
    assert tars.meter.seconds["disk"] == reader.disk > 0
    assert tars.meter.seconds["check"] == reader.check > 0
