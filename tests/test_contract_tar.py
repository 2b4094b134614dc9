"""Tars: stock tools read what we write, and nothing damaged or unsafe passes unnoticed."""

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import tar
from contract.errors import ShardError

names = st.text("abc019_-.", min_size=1, max_size=98).map("k{}".format)
files = st.dictionaries(names, st.binary(max_size=2000), max_size=5)


def archive(contents: dict[str, bytes]) -> bytes:
    body = b"".join(tar.extent(name, content) for name, content in contents.items())
    return body + tar.trailer(len(body))


def scan(folder: Path, content: bytes) -> list[tar.Member]:
    path = folder / "shard.tar"
    path.write_bytes(content)
    with tar.open_shard(path) as file:
        return list(tar.scan(file, str(path)))


@given(files)
def test_stock_tarfile_reads_what_we_write(contents: dict[str, bytes]) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive(contents))) as file:
        read = {member.name: file.extractfile(member).read() for member in file}  # type: ignore[union-attr]
        assert read == contents
        assert all((m.mtime, m.uid, m.gid, m.mode, m.isreg()) == (0, 0, 0, 0o644, True) for m in file)


@given(files)
def test_scan_finds_every_member_where_it_lies(tmp_path_factory: pytest.TempPathFactory, contents) -> None:  # type: ignore[no-untyped-def]
    whole = archive(contents)
    assert len(whole) % tar.RECORD == 0
    members = scan(tmp_path_factory.getbasetemp(), whole)
    assert {m.name: whole[m.payload : m.payload + m.size] for m in members} == contents


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_of_other_tools_are_read(tmp_path: Path, form: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as file:
        info = tarfile.TarInfo("1.json")
        info.size, info.mtime = 2, 1234567.89
        file.addfile(info, io.BytesIO(b"{}"))
    (member,) = scan(tmp_path, buffer.getvalue())
    assert (member.name, member.size) == ("1.json", 2)


def of_another_tool(name: str, form: int = tarfile.PAX_FORMAT, **headers: str) -> bytes:
    """A tar of one member, with these PAX headers before it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as file:
        info = tarfile.TarInfo(name)
        info.size, info.pax_headers = 2, headers
        file.addfile(info, io.BytesIO(b"{}"))
    return buffer.getvalue()


def test_a_long_name_is_joined_from_its_two_fields(tmp_path: Path) -> None:
    name = f"{'a' * 90}/{'b' * 60}/{'c' * 90}.json"
    (member,) = scan(tmp_path, of_another_tool(name, tarfile.USTAR_FORMAT))
    assert (member.name, member.size) == (name, 2)


def test_the_folder_before_a_name_must_be_safe_too(tmp_path: Path) -> None:
    name = f"../{'a' * 90}/{'b' * 60}.json"
    with pytest.raises(ShardError, match="unsafe name"):
        scan(tmp_path, of_another_tool(name, tarfile.USTAR_FORMAT))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (of_another_tool("a" * 120, tarfile.PAX_FORMAT), "path"),
        (of_another_tool("a" * 120, tarfile.GNU_FORMAT), "path"),
        (of_another_tool("1.json", comment="x\nmuch", size="1024"), "size"),
        (of_another_tool("1.json", **{"GNU.sparse.name": "2.json"}), r"GNU\.sparse\.name"),
    ],
    ids=["pax path", "gnu path", "pax size", "sparse"],
)
def test_a_name_or_size_that_stands_elsewhere_is_refused(tmp_path: Path, content: bytes, what: str) -> None:
    with pytest.raises(ShardError, match=f"the {what} of a member stands in an extension header at byte 0"):
        scan(tmp_path, content)


def test_an_extension_header_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="an extension header of"):
        scan(tmp_path, of_another_tool("1.json", comment="x" * tar.MAX_EXTENSION))


@given(st.data())
def test_a_cut_anywhere_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = archive({"a.json": b"x" * 700, "b.json": b"y"})
    last = len(whole) - tar.RECORD + whole[-tar.RECORD :].rstrip(b"\0").__len__()
    end = data.draw(st.integers(0, tar.padded(last)))  # up to where only padding is lost
    with pytest.raises(ShardError):
        scan(tmp_path_factory.getbasetemp(), whole[:end])


@given(st.integers(0, tar.BLOCK * 8 - 1))
def test_a_flipped_header_bit_is_noticed_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, bit: int
) -> None:
    whole = bytearray(archive({"a.json": b"x" * 700}))
    whole[bit // 8] ^= 1 << bit % 8
    try:
        members = scan(tmp_path_factory.getbasetemp(), bytes(whole))
    except ShardError:
        return
    assert [(m.name, m.size) for m in members] == [("a.json", 700)]


def test_zeros_over_the_last_members_are_no_end(tmp_path: Path) -> None:
    path = tmp_path / "shard.tar"
    body = tar.extent("a.json", b"{}")
    path.write_bytes(body + bytes(1 << 20))
    with path.open("rb") as file, pytest.raises(ShardError, match="behind the end[\\s\\S]*members were lost"):
        list(tar.scan(file, str(path)))
    path.write_bytes(body + tar.trailer(len(body)))
    with path.open("rb") as file:
        assert [member.name for member in tar.scan(file, str(path))] == ["a.json"]


def test_data_behind_the_end_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="behind the end"):
        scan(tmp_path, archive({"a.json": b"1"}) + archive({"b.json": b"2"}))


def test_the_largest_member_is_the_one_whose_size_fits_the_header(tmp_path: Path) -> None:
    size = tarfile.TarInfo.frombuf(tar.header("a.json", tar.MAX_MEMBER), "ascii", "strict").size
    assert size == tar.MAX_MEMBER
    with pytest.raises(ValueError, match="a.json"):
        tar.header("a.json", tar.MAX_MEMBER + 1)


@pytest.mark.parametrize("name", ["/etc/passwd", "../up.json", "a/../../b.json", "a\nb.json"])
def test_unsafe_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ShardError, match="unsafe name"):
        scan(tmp_path, archive({name: b"1"}))


def test_links_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        info = tarfile.TarInfo("a.json")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(info)
    with pytest.raises(ShardError, match="not a regular file"):
        scan(tmp_path, buffer.getvalue())


def test_an_empty_file_and_a_missing_one_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="empty file"):
        scan(tmp_path, b"")
    with pytest.raises(ShardError, match="dvc pull"):
        tar.open_shard(tmp_path / "none.tar")


def test_a_folder_is_no_shard(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="name a .tar in it"):
        tar.open_shard(tmp_path)


def test_a_shard_that_may_not_be_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "gqa-000.tar"
    path.symlink_to(path)  # an error of the system that no user is exempt from
    with pytest.raises(ShardError, match=r"gqa-000\.tar: cannot be read"):
        tar.open_shard(path)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("1.vit.npy", ("1", "vit.npy")),
        ("a/b.c/1.json", ("a/b.c/1", "json")),
        ("bare", ("bare", "")),
    ],
)
def test_names_split_as_webdataset_splits_them(name: str, parts: tuple[str, str]) -> None:
    assert tar.split_name(name) == parts
