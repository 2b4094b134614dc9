"""JSON of strangers: what a broken file says, and that a bad member costs that member alone."""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import RawDataError
from data_pipeline.reading.json_stream import (
    DECODE_ERRORS,
    id_of,
    members_of_array,
    members_of_object,
    object_of_arrays,
)

KEY = st.text(max_size=3)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEY, inner, max_size=3),
    max_leaves=5,
).filter(lambda value: "\ufeff" not in str(value))
MARK = st.sampled_from([b"", b"\xef\xbb\xbf"])  # a byte order mark, or none
SPACE = st.sampled_from([(", ", ": "), (",", ":"), (" ,\n\t", " : ")])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.json"


@given(st.lists(st.tuples(KEY, VALUE), max_size=6), MARK, SPACE, st.booleans())
def test_every_member_comes_in_its_order(
    tmp_path_factory: pytest.TempPathFactory,
    members: list[tuple[str, object]],
    mark: bytes,
    space: tuple[str, str],
    ascii_only: bool,
) -> None:
    """Repeated keys too; with any spacing, escaped or not, behind a byte order mark or none."""
    comma, colon = space
    texts = [
        json.dumps(key, ensure_ascii=ascii_only) + colon + json.dumps(value, ensure_ascii=ascii_only)
        for key, value in members
    ]
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_bytes(mark + f"{{{comma.join(texts)}}}".encode())
    assert [(key, json.loads(bytes(raw))) for key, raw in members_of_object(path)] == members


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b" \n", "byte 2: ends in the middle"),
        (b'{"a": 1, "b": {"c": 2', "byte 21: ends in the middle"),
        (b'{"a": 1, "b": "\xc3', "byte 16: ends in the middle"),
        (b'{"a": 1} x', "byte 10: is not JSON"),
        (b'{"a": 1}{"a": 2}', "byte 9: is not JSON"),
        (b'{"a": \x00}', "byte 6: is not JSON"),
        (b'\xef\xbb\xbf{"a": \x00}', "byte 9: is not JSON"),
        (b'{"a": 1,}', "byte 8: is not JSON"),
        (b'{"a": [1, NaN]}', "byte 10: is not JSON(?s:.*)write null"),
        (b'{"a": -Infinity}', "byte 7: is not JSON(?s:.*)write null"),
        (b'{"a": No}', "byte 6: is not JSON(?s:.*)download"),
        (b'{"\xff": 1}', "a key that is not UTF-8"),
        (b'{"\\ud800": 1}', "a key that is not UTF-8"),
        (b'{"a": "\\ud800", "b": tru}', "byte 22: is not JSON"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        ("{}".encode("utf-16"), "byte 0: is not JSON"),
        (b"[1]", "has another form(?s:.*)a JSON object"),
    ],
)
def test_a_broken_file_says_where(file: Path, content: bytes, says: str) -> None:
    file.write_bytes(content)
    with pytest.raises(RawDataError, match=says) as error:
        list(members_of_object(file))
    assert str(file) in str(error.value)


def test_an_array_is_no_object(file: Path) -> None:
    file.write_bytes(b'{"a": 1}')
    with pytest.raises(RawDataError, match="has another form(?s:.*)a JSON array"):
        list(members_of_array(file))


class Arrays(msgspec.Struct):
    a: list[msgspec.Raw]


ARRAYS = msgspec.json.Decoder(Arrays)


def test_an_array_that_stands_there_twice_is_an_error(file: Path) -> None:
    file.write_bytes(b'{"a": [1, 2], "b": {"a": [], "a": []}, "\\u0061": [3]}')
    with pytest.raises(RawDataError, match="holds a key twice(?s:.*)found: +a\n"):
        object_of_arrays(file, ARRAYS)
    file.write_bytes(b'{"a": [1, 2], "b": {"a": [], "a": []}}')
    assert [bytes(raw) for raw in object_of_arrays(file, ARRAYS).a] == [b"1", b"2"]


@pytest.mark.parametrize(
    "bad",
    [
        rb'"\ud800"',
        rb'"a \ud83d"',
        rb'"\udc00 b"',
        rb'"\ud83d\u0041"',
        rb'"\ude00\ud83d"',
        rb'"\ud83d\ud83d\ude00"',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b"9" * 5000,
        b"1e999",
        b"3",
        b"null",
    ],
)
@pytest.mark.parametrize("kind", [str, float])
def test_a_bad_member_costs_that_member(file: Path, bad: bytes, kind: type) -> None:
    good = json.dumps("whole \U0001f600 \\ud800" if kind is str else 1.5).encode()
    file.write_bytes(b"[" + good + b"," + bad + b"," + good + b"]")
    first, middle, last = (raw for _, raw in members_of_array(file))
    decoder = msgspec.json.Decoder(kind)
    assert decoder.decode(first) == decoder.decode(last) == json.loads(good)
    if (bad, kind) != (b"3", float):
        with pytest.raises(DECODE_ERRORS):
            decoder.decode(middle)


def test_nesting_that_the_file_survives_and_the_record_does_not(file: Path) -> None:
    """The decoder's limit is the interpreter's: what was split near the top may be too deep further down."""
    file.write_bytes(b"[" + b"[" * 900 + b"]" * 900 + b"]")
    ((_, raw),) = members_of_array(file)

    def deeper(levels: int) -> str:
        return deeper(levels - 1) if levels else id_of(raw, "id")

    assert deeper(60) == ""


@pytest.mark.parametrize(
    ("record", "found"), [(b'{"b": 7}', "7"), (b'{"b": "\xff"}', ""), (b"[1]", ""), (b'{"c": 1}', "")]
)
def test_the_id_of_a_bad_record(record: bytes, found: str) -> None:
    assert id_of(msgspec.Raw(record), "a", "b") == found
