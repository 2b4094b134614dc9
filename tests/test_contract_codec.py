"""Codec: what is written is read back; anything else is a ShardError and never a crash or a pickle."""

import io

import numpy as np
import pytest
from drawn import names, records
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from contract import codec
from contract.errors import ShardError
from contract.record import Near, Negatives, Record, TextNegatives

shapes = arrays.array_shapes(max_dims=3, min_side=0, max_side=5)
tokens = st.sampled_from(codec.DTYPES).flatmap(lambda name: arrays.arrays(np.dtype(name), shapes))


@given(records())
def test_records_come_back(record: Record) -> None:
    assert codec.decode_record(codec.encode(record), "here") == record


@given(st.dictionaries(names, st.builds(TextNegatives, near=st.builds(Near)), max_size=3))
def test_negatives_come_back(texts: dict[str, TextNegatives]) -> None:
    negatives = Negatives(pictures=Near(key=["a"], text=[""], score=[0.5]), texts=texts)
    assert codec.decode_negatives(codec.encode(negatives), "here") == negatives


def test_defaults_are_not_written() -> None:
    assert codec.encode(Negatives(pictures=Near())) == b'{"pictures":{}}'


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b'{"v":2}', "v"),
        (b'{"v":1,"id":7}', r"\$\.id"),
        (b'{"v":1,"colour":"red"}', "colour"),
        (b"\xff", "schema"),
        (b'{"regions":' + b"[" * 10_000, "schema"),
        (b"", "schema"),
    ],
)
def test_a_strange_record_is_an_error_that_names_the_field(content: bytes, field: str) -> None:
    with pytest.raises(ShardError, match=field) as caught:
        codec.decode_record(content, "gqa-000.tar/1.json")
    assert caught.value.where == "gqa-000.tar/1.json"


@given(tokens)
def test_arrays_come_back_with_their_bits(array: np.ndarray) -> None:
    read = codec.decode_array(codec.encode_array(array), "here")
    assert (read.dtype, read.shape, read.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert np.array_equal(np.load(io.BytesIO(codec.encode_array(array))), array, equal_nan=True)


@given(tokens)
def test_our_npy_is_the_one_that_numpy_saves(array: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    assert codec.encode_array(array) == buffer.getvalue()


def test_reading_copies_nothing() -> None:
    content = codec.encode_array(np.ones((3, 2), np.float16))
    assert not codec.decode_array(content, "here").flags.owndata


@given(tokens, st.data())
def test_a_damaged_array_is_an_error_or_an_array(array: np.ndarray, data: st.DataObject) -> None:
    content = bytearray(codec.encode_array(array))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, min(len(content), 128) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    for damaged in (bytes(content), bytes(content[:cut])):
        try:
            assert codec.decode_array(damaged, "here").dtype.name in codec.DTYPES
        except ShardError as error:
            assert error.where == "here"


def with_header(text: str, payload: bytes = b"") -> bytes:
    return codec.NPY_1_0 + len(text).to_bytes(2, "little") + text.encode() + payload


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (0,), }\n",
        "{'descr': '<f2', 'fortran_order': True, 'shape': (0, 3), }\n",
        "{'descr': '<f2', 'fortran_order': False, 'shape': (-1,), }\n",
        "{'descr': '<f2', 'fortran_order': False, 'shape': (2147483648, 2147483648, 4), }\n",
        "{'descr': '>f2', 'fortran_order': False, 'shape': (0,), }\n",
        "__import__('os').system('true')\n",
        "{'descr': '<f2', 'fortran_order': False, 'shape': (%s,), }\n" % ("0" * 20),
        "{'descr': '<f2', 'fortran_order': False, 'shape': (%s" % ("1" * 80),
        "{" * 500,
    ],
)
def test_hostile_headers_are_refused(header: str) -> None:
    with pytest.raises(ShardError):
        codec.decode_array(with_header(header), "here")


def test_a_pickle_is_refused() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}]), allow_pickle=True)
    with pytest.raises(ShardError):
        codec.decode_array(buffer.getvalue(), "here")
