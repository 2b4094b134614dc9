"""Shard writer: stock webdataset and tarfile read it, the bytes repeat, nothing half-written stays."""

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import webdataset
from drawn import samples
from hypothesis import given

from contract.files import sha256_file
from contract.index import index_path
from data_pipeline.shards.shard_writer import Sample, write_shard

SUFFIXES = ["json", "vit.npy"]


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shards") / "gqa-000.tar"


@given(samples())
def test_stock_tools_read_what_we_write(shard: Path, drawn: list[Sample]) -> None:
    written = write_shard(shard, SUFFIXES, drawn)
    assert (written.samples, written.bytes) == (len(drawn), shard.stat().st_size)
    assert written.sha256 == sha256_file(shard)
    with tarfile.open(shard) as file:
        assert file.getnames() == [f"{sample.key}.{suffix}" for sample in drawn for suffix in SUFFIXES]
    if drawn:  # webdataset refuses an empty shard unless told otherwise
        read = list(webdataset.WebDataset(str(shard), shardshuffle=False))
        assert [(sample["__key__"], [sample[s] for s in SUFFIXES]) for sample in read] == [
            (sample.key, sample.members) for sample in drawn
        ]


@given(samples(largest=3))
def test_the_bytes_repeat(shard: Path, drawn: list[Sample]) -> None:
    def twice() -> Iterator[tuple[bytes, bytes]]:
        for _ in range(2):
            write_shard(shard, SUFFIXES, drawn)
            yield shard.read_bytes(), index_path(shard).read_bytes()

    first, second = twice()
    assert first == second


@pytest.mark.parametrize(
    "wrong",
    [
        [Sample("b", [b"", b""]), Sample("a", [b"", b""])],
        [Sample("a", [b"", b""]), Sample("a", [b"", b""])],
        [Sample("a.b", [b"", b""])],
        [Sample("../a", [b"", b""])],
        [Sample("k" * 65, [b"", b""])],
        [Sample("é", [b"", b""])],
        [Sample("a", [b""])],
    ],
)
def test_samples_that_break_the_format_leave_nothing(tmp_path: Path, wrong: list[Sample]) -> None:
    with pytest.raises(ValueError):
        write_shard(tmp_path / "x.tar", SUFFIXES, wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_member_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"vit\.npy"):
        write_shard(tmp_path / "x.tar", ["vit.npy", "vit.npy"], [Sample("a", [b"", b""])])
    assert list(tmp_path.iterdir()) == []


def test_a_failure_half_way_keeps_the_earlier_shard(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    write_shard(path, ["json"], [Sample("a", [b"old"])])
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def failing() -> Iterator[Sample]:
        yield Sample("a", [b"new"])
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        write_shard(path, ["json"], failing())
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
