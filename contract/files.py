"""Files that are there whole or not at all, and the hashes that identify them."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from contract.errors import ParamsError

BLOCK = 1 << 20


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; rename it onto `path` when the block succeeds.

    Works for a file and for a folder; a folder replaces an earlier one of that name, which steps aside until
    the new one is in place. What a killed run left beside is removed by the next, and what it had put aside
    comes back: so two processes must not write one path at the same time.
    """
    _make_folder(path.parent)
    beside, old = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.old")
    _settle(path, beside, old)
    try:
        yield beside
        if beside.is_dir() and path.exists():
            path.replace(old)
        beside.replace(path)
    finally:
        _settle(path, beside, old)


def check_folder(folder: Path) -> None:
    """ParamsError where nothing can be written into a folder, or into the one that it would be made in. It is
    tried: rights alone tell nothing of /proc, or to root.
    """
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    try:
        with TemporaryFile(dir=there):
            pass
    except OSError as error:
        found = f"{there}: {error.strerror}"
        raise ParamsError(folder, "cannot be written to", found=found, fix="name another folder") from None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        fix = "name another folder, or remove the file"
        raise ParamsError(folder, "cannot be a folder: a file is in the way", fix=fix) from None


def _settle(path: Path, beside: Path, old: Path) -> None:
    """Leave `path` alone: the new one if it got there, else the old one."""
    remove(beside)
    if old.exists() and not path.exists():
        old.replace(path)
    remove(old)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a whole file, or leave what was there."""
    with atomic_path(path) as beside:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)


def link(source: Path, target: Path) -> None:
    """One file on disk under two names; a copy where the file system has no links, or not for us."""
    with atomic_path(target) as beside:
        try:
            os.link(source, beside)
        except OSError:
            shutil.copyfile(source, beside)


def remove(path: Path) -> None:
    """Remove a file or a folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def sha256_text(text: str) -> str:
    """Hex sha256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()
