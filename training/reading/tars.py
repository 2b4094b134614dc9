"""Open tars: few at once, and each open for as long as anybody reads from it."""

import os
import resource
from pathlib import Path
from threading import Lock

from contract.errors import ShardError
from training.reading.meter import Meter

OPEN_FILES = 512  # at most; half of what the system allows, where that is less


class OpenTar:
    """A descriptor that is closed when the last reference to it is gone."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


class Tars:
    """Tars that were read from, the first opened forgotten when there are many; threads share them."""

    def __init__(self, most: int | None = None) -> None:
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = most or min(OPEN_FILES, allowed // 2)
        self._open: dict[Path, OpenTar] = {}
        self._lock = Lock()
        self.meter = Meter()

    def open(self, path: Path) -> OpenTar:
        """The tar, opened if need be; hold the result while reading. ShardError if the file has vanished."""
        return self._open.get(path) or self._opened(path)

    def _opened(self, path: Path) -> OpenTar:
        with self._lock:
            found = self._open[path] = self._open.get(path) or OpenTar(_descriptor(path))
            while len(self._open) > self._most:
                del self._open[next(iter(self._open))]
        return found

    def close(self) -> None:
        """Forget every tar."""
        self._open.clear()


def _descriptor(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        raise ShardError(path, "vanished while the run was reading it", fix=f"dvc pull {path}") from None
    except OSError as error:
        raise ShardError(path, f"cannot be opened: {error.strerror}") from None
