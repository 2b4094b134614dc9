"""Where the system lacks room, for files or for what is read, that is said, and no file pays for it."""

import errno
import io
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import synthetic
import torch

from contract import index, manifest, tar
from contract.errors import NoRoomError, ShardError, run_command, unreadable
from contract.manifest import DataManifest
from data_pipeline import engine
from data_pipeline.pictures import scanning
from data_pipeline.reading import small_file
from data_pipeline.shards import shard_reader, verifying
from training import fit, shards
from training.optimizing import device
from training.reading import sources, unlisted
from training.reading.tars import Tars
from training.shards import open_shards
from training.stream import Stream

SAID = r"ulimit -n[\s\S]*Too many open files"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    synthetic.build(tmp_path, train=8, val=4, shards=2)
    return tmp_path


@contextmanager
def room_for(files: int) -> Iterator[None]:
    """The process can open so many files and no more; many are open where other tests ran before."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(each.name) for each in Path("/dev/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + files, before[1]))
    taken: list[int] = []
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(files):
            os.close(taken.pop())
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def stream(own: Path, negatives: int = 0) -> Stream:
    opened = open_shards([str(own / "data")], ["vit"])
    return Stream(opened, ["vqa"], batch=2, stop=8, on_error="skip", negatives=negatives)


def test_where_the_system_opens_no_more_files_others_make_room(own: Path) -> None:
    tars = Tars(most=100)
    with room_for(2):
        for path in sorted(own.rglob("*.tar")):
            assert os.pread(tars.open(path).descriptor, 512, 0)
    tars.close()


@pytest.mark.parametrize(("negatives", "room"), [(0, 0), (1, 1)])
def test_a_lack_of_room_is_said_and_costs_no_picture(own: Path, negatives: int, room: int) -> None:
    list(stream(own, negatives))  # what is imported on the way is a file, too
    cramped = stream(own, negatives)
    with room_for(room), pytest.raises(NoRoomError, match=SAID):
        list(cramped)
    assert not cramped.left_out()


def failing(number: int, name: str = "preadv") -> Callable[..., object]:
    """A read that fails with this error the fifth time."""
    sound, calls = getattr(os, name), count(1)

    def read(*arguments: object) -> object:
        if next(calls) == 5:
            raise OSError(number, os.strerror(number))
        return sound(*arguments)

    return read


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.ENOBUFS])
def test_a_lack_of_memory_is_said_and_costs_no_picture(
    own: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cramped = stream(own)
    monkeypatch.setattr(os, "preadv", failing(number))
    with pytest.raises(NoRoomError, match=rf"memory: [\s\S]*{os.strerror(number)}[\s\S]*more memory"):
        list(cramped)
    assert not cramped.left_out()


def test_what_the_disk_cannot_give_costs_a_picture(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worn = stream(own)
    monkeypatch.setattr(os, "preadv", failing(errno.EIO))
    list(worn)
    (why,) = worn.left_out().values()
    assert "cannot be read at byte" in why


OPENERS: dict[str, Callable[[Path], object]] = {
    "a shard": lambda own: tar.open_shard(own / "data/toy-000.tar"),
    "an index": lambda own: index.load(own / "data/toy-000.tar"),
    "a manifest": lambda own: manifest.load(own / "data", DataManifest),
    "the kind of a manifest": lambda own: manifest.is_export(own / "data"),
    "a tokenizer": lambda own: shards._digest(own / "data/tokenizer.json"),
    "a tokenizer by name": lambda own: sources._digest(own / "data/tokenizer.json"),
    "answers": lambda own: unlisted.read_answers(own / "params.yaml"),
    "a picture": lambda own: scanning.scan(scanning.Task(str(own), ["params.yaml"])),
    "an annotation": lambda own: small_file.content(own / "params.yaml"),
    "a column that is verified": lambda own: verifying.columns(own / "data"),
    "keys that are verified": lambda own: verifying.keys(own / "data/toy-000.tar"),
    "a process": lambda _own: list(engine.run_tasks(abs, [1, 2], 2, label="abs")),
}


@pytest.mark.parametrize("what", OPENERS)
def test_whatever_cannot_be_opened_for_it_is_not_blamed(own: Path, what: str) -> None:
    with room_for(0), pytest.raises(NoRoomError, match=SAID):
        OPENERS[what](own)


@pytest.mark.parametrize(
    ("allowed", "most", "fix"),
    [
        (256, 1 << 20, "ulimit -n 4096, or close streams"),
        (8192, 1 << 20, "ulimit -n 16384, or close streams"),
        (8192, 10_000, "ulimit -n 10000, or close streams"),
        (8192, resource.RLIM_INFINITY, "ulimit -n 16384, or close streams"),
        (8192, 8192, "close streams"),
    ],
)
def test_the_limit_is_named_and_a_higher_one_where_it_may_be_asked_for(
    allowed: int, most: int, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (allowed, most))
    error = unreadable("a.tar", OSError(errno.EMFILE, "Too many open files"))
    assert error.found == f"{allowed} files at once"
    assert str(error.fix).startswith(fix)


def test_a_full_machine_is_not_mended_by_a_limit_of_the_process() -> None:
    error = unreadable("a.tar", OSError(errno.ENFILE, "Too many open files in system"))
    assert isinstance(error, NoRoomError) and "ulimit" not in error.text()


def test_what_may_not_be_read_is_the_files_own_fault() -> None:
    error = unreadable("a.tar", OSError(errno.EACCES, "Permission denied"))
    assert isinstance(error, ShardError) and error.where == "a.tar"


def test_a_disk_that_fails_while_an_index_is_rebuilt_is_named(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pread", failing(errno.EIO, "pread"))
    with pytest.raises(
        ShardError, match=r"toy-000\.tar[\s\S]*cannot be read at byte \d+: Input/output error"
    ):
        index.scan(own / "data" / "toy-000.tar")


def test_a_lack_of_files_is_no_fault_of_what_is_verified(own: Path) -> None:
    (column, *_), _ = verifying.columns(own / "data")
    with room_for(0), pytest.raises(NoRoomError, match=SAID):
        list(verifying.check_shard(column, "toy-000"))


class Worn(io.BytesIO):
    """A file that opens, and of which nothing can be read."""

    error = errno.EIO

    def read(self, _size: int | None = -1) -> bytes:
        raise OSError(self.error, os.strerror(self.error))


class Cramped(Worn):
    """Likewise, for want of memory."""

    error = errno.ENOMEM


def test_what_the_disk_cannot_give_is_a_fault_of_its_file(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (column, *_), _ = verifying.columns(own / "data")
    monkeypatch.setattr(tar, "open_shard", lambda path: Worn(path.read_bytes()))
    (found,) = verifying.check_shard(column, "toy-000")
    assert found.where.endswith("data/toy-000.tar") and "Input/output error" in found.problem
    assert "dvc pull" in found.fix
    monkeypatch.setattr(tar, "open_shard", lambda path: Cramped(path.read_bytes()))
    with pytest.raises(NoRoomError, match="memory"):
        list(verifying.check_shard(column, "toy-000"))


@pytest.mark.parametrize(("number", "kind"), [(errno.EIO, ShardError), (errno.ENOMEM, NoRoomError)])
def test_a_disk_that_fails_in_a_member_is_named(
    own: Path, number: int, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pread", failing(number, "pread"))
    with pytest.raises(kind, match=rf"toy-001\.tar[\s\S]*{os.strerror(number)}"):
        for shard in ("toy-000", "toy-001"):
            list(shard_reader.members(own / f"data/{shard}.tar", "json"))


@pytest.mark.parametrize("files", [9, 12, 16])
def test_too_few_files_for_any_process_end_in_one_error(own: Path, files: int) -> None:
    command = f"ulimit -n {files} && exec {sys.executable} -m data_pipeline verify data --workers 2"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(["bash", "-c", command], cwd=own, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: ulimit -n: "), done.stderr
    assert "Traceback" not in done.stderr and "fix:" in done.stderr


LOWER = r"memory: is not enough[\s\S]*optim\.batch.*ahead.*threads"
ASKED = [
    (lambda: bytearray(1 << 60), LOWER),
    (lambda: np.empty(1 << 60, np.uint8), LOWER),
    (os.pipe, SAID),
]


@pytest.mark.parametrize(("ask", "words"), ASKED, ids=["bytes", "an array", "files"])
def test_a_command_that_asks_for_too_much_ends_in_one_error(
    ask: Callable[[], object], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with room_for(0), pytest.raises(SystemExit) as left:
        run_command(lambda: bool(ask()))
    said = capsys.readouterr().err
    assert left.value.code == 2 and said.count("error: ") == 1
    assert re.search(words, said)


def test_a_lack_of_memory_in_a_thread_of_the_reader_reaches_the_command(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> NoReturn:
        raise MemoryError

    cramped = stream(own)
    monkeypatch.setattr(os, "preadv", full)
    with pytest.raises(MemoryError):
        list(cramped)
    assert not cramped.left_out()


@contextmanager
def memory_for(size: int) -> Iterator[None]:
    """The process can take so many bytes more."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks Linux how much memory it has")
def test_a_model_for_which_there_is_no_memory_is_said(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own)
    said = r"memory: is not enough[\s\S]*allocate \d+ bytes[\s\S]*model\.hidden[\s\S]*slots"
    with memory_for(1 << 28), pytest.raises(NoRoomError, match=said):
        fit.main(["--run", "runs/a", "--set", "model.hidden=16384"])


def test_another_error_of_torch_keeps_its_own_words() -> None:
    with pytest.raises(RuntimeError, match="shape"), device.enough_memory():
        torch.ones(2) @ torch.ones(3, 4)


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_a_library_of_the_device_that_gets_no_memory_is_said_too(said: str) -> None:
    with pytest.raises(NoRoomError, match="memory: is not enough"), device.enough_memory():
        raise RuntimeError(said)


def test_the_memory_of_a_device_is_said_too() -> None:
    said = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a capacity of 1 GiB"
    expected = pytest.raises(NoRoomError, match=r"memory: is not enough[\s\S]*allocate 2\.00 GiB")
    with expected, device.enough_memory():
        raise torch.OutOfMemoryError(said)
