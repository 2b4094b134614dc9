"""Which raw files a dataset's readers opened: files.json of stage read, for the report's provenance."""

import json
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, TypedDict

from contract.files import sha256_file, sha256_text


class Facts(TypedDict):
    """Of a file; of a folder the sum of its files, and the hash of their names and hashes."""

    bytes: int
    sha256: str


class RawFiles:
    """Hashes each file in a thread while its reader has it in the page cache."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._beside = ThreadPoolExecutor(1)
        self._noted: dict[Path, Future[Facts] | None] = {}  # None: a folder, left to the end

    def note(self, path: Path) -> None:
        """A reader is about to open this file, or files of this folder."""
        if path not in self._noted:
            self._noted[path] = None if path.is_dir() else self._beside.submit(_file, path)

    def facts(self) -> dict[str, Facts]:
        """By path relative to the dataset's folder, in the order noted.

        A folder stands for its files if the reader noted none of them.
        """
        inside = {parent for path in self._noted for parent in path.parents}
        return {
            path.relative_to(self._folder).as_posix(): facts.result() if facts else _tree(path)
            for path, facts in self._noted.items()
            if facts or path not in inside
        }

    def write(self, out: Path) -> None:
        (out / "files.json").write_text(json.dumps(self.facts(), indent=1) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self._beside.shutdown(cancel_futures=True)


def _file(path: Path) -> Facts:
    return Facts(bytes=path.stat().st_size, sha256=sha256_file(path))


def _tree(folder: Path) -> Facts:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    found = [(path.relative_to(folder).as_posix(), _file(path)) for path in paths]
    lines = [f"{name} {facts['sha256']}\n" for name, facts in found]
    return Facts(bytes=sum(facts["bytes"] for _, facts in found), sha256=sha256_text("".join(lines)))
