"""Index: it says what the tar holds, notices any damage to it, and can be rebuilt from it."""

from pathlib import Path

import numpy as np
import pytest
import xxhash
from drawn import samples
from hypothesis import given
from hypothesis import strategies as st

from contract import index, tar
from contract.errors import ShardError
from contract.index import Index
from contract.record import Record, Regions, Text
from data_pipeline.shards import shard_reader
from data_pipeline.shards.shard_writer import Sample, write_shard

SUFFIXES = ["json", "vit.npy"]


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shards") / "gqa-000.tar"


def write(shard: Path, drawn: list[Sample]) -> Index:
    write_shard(shard, SUFFIXES, drawn)
    return index.load(shard)


def damaged_members(known: Index, content: bytes) -> list[tuple[int, int]]:
    """What every reader does with an indexed extent: hash the whole of it."""
    places = [(row, at) for row in range(len(known)) for at in range(len(known.suffixes))]

    def hashed(row: int, at: int) -> int:
        start, size = int(known.rows["offset"][row, at]), int(known.rows["size"][row, at])
        return xxhash.xxh3_64_intdigest(content[start : start + tar.BLOCK + tar.padded(size)])

    return [(row, at) for row, at in places if hashed(row, at) != known.rows["hash"][row, at]]


@given(samples())
def test_what_is_written_is_loaded(shard: Path, drawn: list[Sample]) -> None:
    known = write(shard, drawn)
    assert known.suffixes == tuple(SUFFIXES) and known.hashed
    assert known.keys() == [sample.key for sample in drawn]
    assert known.rows["texts"].tolist() == [list(sample.texts) for sample in drawn]
    assert known.rows["flags"].tolist() == [int(sample.absent) for sample in drawn]
    content = shard.read_bytes()
    for row, sample in enumerate(drawn):
        for at, expected in enumerate(sample.members):
            start = int(known.rows["offset"][row, at]) + tar.BLOCK
            assert content[start : start + int(known.rows["size"][row, at])] == expected
    assert damaged_members(known, content) == []


@given(samples())
def test_a_scan_finds_the_same_members(shard: Path, drawn: list[Sample]) -> None:
    written, scanned = write(shard, drawn), index.scan(shard)
    assert not scanned.hashed and scanned.tar_bytes == written.tar_bytes
    assert scanned.keys() == written.keys()
    if drawn:  # an empty tar cannot say which members its samples would have
        assert scanned.suffixes == written.suffixes
        for column in ("offset", "size"):
            assert np.array_equal(scanned.rows[column], written.rows[column])


@given(samples(largest=3).filter(bool), st.data())
def test_any_flipped_bit_of_an_extent_is_noticed(
    shard: Path, drawn: list[Sample], data: st.DataObject
) -> None:
    known, content = write(shard, drawn), bytearray(shard.read_bytes())
    end = int(known.rows["offset"][-1, -1]) + tar.BLOCK + tar.padded(int(known.rows["size"][-1, -1]))
    bit = data.draw(st.integers(0, end * 8 - 1))
    content[bit // 8] ^= 1 << bit % 8
    assert len(damaged_members(known, bytes(content))) == 1
    shard.write_bytes(content)
    with pytest.raises(ShardError, match="is damaged"):
        for suffix in SUFFIXES:
            list(shard_reader.members(shard, suffix))


@given(samples(), st.data())
def test_any_cut_is_noticed_before_a_byte_is_read(
    shard: Path, drawn: list[Sample], data: st.DataObject
) -> None:
    write(shard, drawn)
    content = shard.read_bytes()
    shard.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(ShardError, match="not the file that its index describes"):
        index.load(shard)


@given(samples(largest=2), st.data())
def test_a_damaged_index_is_noticed(shard: Path, drawn: list[Sample], data: st.DataObject) -> None:
    write(shard, drawn)
    path = index.index_path(shard)
    content = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, 32 * 8 - 1) | st.integers(index.HEADER.size * 8, len(content) * 8 - 1))
    content[bit // 8] ^= 1 << bit % 8
    cut = data.draw(st.integers(0, len(content) - 1))
    for damaged in (bytes(content), bytes(content[:cut])):
        with pytest.raises(ShardError):
            index.parse(damaged, path, shard.stat().st_size)


def test_without_an_index_the_tar_is_scanned(shard: Path) -> None:
    write(shard, [Sample("a", [b"{}", b"1"])])
    index.index_path(shard).unlink()
    assert not index.load(shard).hashed
    assert list(shard_reader.members(shard, "json")) == [("a", b"{}", False)]


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["a.json", "a.npy", "b.json"], "lacks a member"),
        (["a.json", "b.json", "a.npy", "b.npy"], "breaks the order"),
        (["a.json", "a.npy", "b.json", "b.jpg"], "breaks the order"),
        (["a.json", "a.npy", "b.npy", "b.npy"], "breaks the order"),
        (["a.json", "a.json"], "key a twice"),
        (["a.json", "b.json", "a.json"], "key a twice"),
        ([f"a.{number}" for number in range(64)], "64 members a sample"),
        (["k" * 65 + ".json"], "over 64 bytes"),
    ],
)
def test_a_tar_that_is_no_shard_is_refused(tmp_path: Path, names: list[str], problem: str) -> None:
    body = b"".join(tar.extent(name, b"1") for name in names)
    path = tmp_path / "x.tar"
    path.write_bytes(body + tar.trailer(len(body)))
    with pytest.raises(ShardError, match=problem):
        index.scan(path)


@given(st.permutations(["b", "a", "c"]), st.lists(st.permutations(["json", "vit.npy", "x"]), min_size=3))
def test_a_scan_takes_members_and_keys_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, keys: list[str], orders: list[list[str]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "mixed.tar"
    names = [f"{key}.{suffix}" for key, order in zip(keys, orders, strict=False) for suffix in order]
    body = b"".join(tar.extent(name, name.encode()) for name in names)
    path.write_bytes(body + tar.trailer(len(body)))
    known = index.scan(path)
    assert known.keys() == keys and known.suffixes == tuple(orders[0])
    for suffix in known.suffixes:
        chosen = known.only([suffix], path)
        for key, offset in zip(keys, chosen.rows["offset"][:, 0].tolist(), strict=True):
            assert body[offset + tar.BLOCK :].startswith(f"{key}.{suffix}".encode())


def test_a_missing_member_lists_what_there_is(shard: Path) -> None:
    known = write(shard, [Sample("a", [b"{}", b"1"])])
    with pytest.raises(ShardError, match="one of json, vit.npy"):
        known.member("esam.npy", shard)


def test_texts_are_counted_by_what_a_task_can_use() -> None:
    def text(name: str, role: str, **more: object) -> Text:
        return Text(id=name, role=role, text="x", tokens=[1], **more)  # type: ignore[arg-type]

    texts = [
        text("1", "question", answer="yes"),
        text("2", "question"),
        text("3", "statement", span_chars=[(0, 1)], span_tokens=[(0, 1)], span_regions=[[0]]),
        text("4", "caption", span_chars=[(0, 1)], span_tokens=[(0, 1)], span_regions=[[]]),
        text("5", "phrase", about=[0]),
        text("6", "edit", target=["k"]),
        text("7", "edit"),
    ]
    record = Record(1, "1", 1, 1, "0", "g", Regions(["r"], [(0.0, 0.0, 1.0, 1.0)], [""]), texts)
    assert dict(zip(index.COUNTED, index.count_texts(record), strict=True)) == {
        "vqa": 1,
        "pairs": 2,
        "region": 2,
        "cir": 1,
    }


def hostile(known: Index, path: Path, **fields: object) -> bytes:
    """An index that hashes to what it says, of rows that no writer makes."""
    rows = known.rows.copy()
    for name, value in fields.items():
        rows[name] = value
    Index(known.suffixes, rows, known.tar_bytes).save(path)
    return path.read_bytes()


@pytest.mark.parametrize(
    "fields",
    [
        {"offset": 2**64 - 512},
        {"size": 2**64 - 1},
        {"size": 2**20},
        {"offset": 0},  # every member in one place
        {"key": b"same"},
        {"key": [b"a", b"../b"]},
        {"key": [b"b", b"a"]},
        {"key": [b"", b"a"]},
        {"key": [b"a\x1b[2J", b"b"]},
        {"key": [b"a\0b", b"b"]},
    ],
)
def test_an_index_that_points_outside_its_tar_is_refused(tmp_path: Path, fields: dict[str, object]) -> None:
    shard = tmp_path / "x.tar"
    known = write(shard, [Sample("a", [b"{}", b"1"]), Sample("b", [b"{}", b"22"])])
    content = hostile(known, index.index_path(shard), **fields)
    with pytest.raises(ShardError, match="describes no shard"):
        index.parse(content, index.index_path(shard), known.tar_bytes)


def test_an_index_with_an_odd_member_name_is_refused(tmp_path: Path) -> None:
    shard = tmp_path / "x.tar"
    known = write(shard, [Sample("a", [b"{}", b"1"])])
    known.suffixes = ("json", "\x1b[2J")
    with pytest.raises(ShardError, match="describes no shard"):
        index.parse(hostile(known, index.index_path(shard)), index.index_path(shard), known.tar_bytes)


def test_an_index_that_may_not_be_read_is_an_error_and_no_scan(tmp_path: Path) -> None:
    write_shard(tmp_path / "gqa-000.tar", SUFFIXES, [])
    path = index.index_path(tmp_path / "gqa-000.tar")
    path.unlink()
    path.mkdir()
    with pytest.raises(ShardError, match=r"\.tar\.idx: cannot be read: Is a directory"):
        index.load(tmp_path / "gqa-000.tar")
