"""Files: there whole or not at all, whenever the process is killed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from contract import files
from contract.errors import ParamsError
from contract.files import atomic_path


class Killed(BaseException):
    """A process that ends here, without its clean-up."""


def write(path: Path, content: str) -> None:
    with atomic_path(path) as folder:
        folder.mkdir()
        (folder / "file").write_text(content)


def kill_at(monkeypatch: pytest.MonkeyPatch, dies: Callable[[Path], bool]) -> None:
    """End the process before the first rename that `dies` names; a dead one settles nothing."""
    replace = Path.replace

    def dying(self: Path, target: Path) -> Path:
        if dies(self):
            monkeypatch.setattr(files, "_settle", lambda *paths: None)
            raise Killed
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", dying)


@pytest.mark.parametrize("when", ["before the old steps aside", "before the new is in place"])
def test_a_killed_replacement_leaves_the_old_folder_or_brings_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    path = tmp_path / "data"
    write(path, "old")
    with monkeypatch.context() as patched:
        kill_at(patched, lambda source: (source == path) == (when == "before the old steps aside"))
        with pytest.raises(Killed):
            write(path, "new")
    with pytest.raises(RuntimeError), atomic_path(path):  # the next run fails too
        assert (path / "file").read_text() == "old"
        raise RuntimeError
    assert [left.name for left in tmp_path.iterdir()] == ["data"]
    assert (path / "file").read_text() == "old"


def test_a_kill_before_the_old_folder_is_removed_leaves_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, remove = tmp_path / "data", files.remove
    write(path, "old")

    def dying(target: Path) -> None:
        if target.name.endswith(".old") and target.exists():
            raise Killed
        remove(target)

    with monkeypatch.context() as patched:
        patched.setattr(files, "remove", dying)
        with pytest.raises(Killed):
            write(path, "new")
    assert (path / "file").read_text() == "new"
    write(path, "newer")
    assert [left.name for left in tmp_path.iterdir()] == ["data"]
    assert (path / "file").read_text() == "newer"


def test_a_failed_replacement_leaves_the_old_folder(tmp_path: Path) -> None:
    path = tmp_path / "data"
    write(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as folder:
        folder.mkdir()
        raise RuntimeError
    assert [left.name for left in tmp_path.iterdir()] == ["data"]
    assert (path / "file").read_text() == "old"


@pytest.mark.parametrize("below", ["file", "file/folder"])
def test_a_file_in_the_way_of_a_folder_is_said(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ParamsError, match="a file is in the way"), atomic_path(tmp_path / below / "out.npy"):
        pass
