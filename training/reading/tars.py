"""Open tars: few at once, and each open for as long as anybody reads from it."""

import gc
import os
import resource
from pathlib import Path
from threading import Lock

from contract.errors import NoRoomError, ShardError, unreadable
from training.reading.meter import Meter

OPEN_FILES = 512  # at most; a quarter of what the system allows, where that is less: streams are read beside
# each other, and the process has other files


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
        self._most = most or min(OPEN_FILES, max(1, allowed // 4))
        self._open: dict[Path, OpenTar] = {}
        self._lock = Lock()
        self.meter = Meter()

    def open(self, path: Path) -> OpenTar:
        """The tar, opened if need be; hold the result while reading. ShardError if the file has vanished."""
        return self._open.get(path) or self._opened(path)

    def _opened(self, path: Path) -> OpenTar:
        with self._lock:
            found = self._open[path] = self._open.get(path) or self._new(path)
            while len(self._open) > self._most:
                del self._open[next(iter(self._open))]
        return found

    def _new(self, path: Path) -> OpenTar:
        """Where the system has no room, all others are forgotten first, and streams that nobody holds."""
        try:
            return OpenTar(_descriptor(path))
        except NoRoomError:
            self._open.clear()
            gc.collect()
            return OpenTar(_descriptor(path))

    def close(self) -> None:
        """Forget every tar."""
        self._open.clear()


def _descriptor(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        raise ShardError(path, "vanished while the run was reading it", fix=f"dvc pull {path}") from None
    except OSError as error:
        raise unreadable(path, error) from None
