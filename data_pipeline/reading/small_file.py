"""Small files of strangers: one per picture, read whole."""

from pathlib import Path

from contract.errors import RawDataError, no_room

LARGEST = 1 << 20  # bytes; the longest real ones have some ten thousand


def content(path: Path) -> bytes:
    """The file's bytes. RawDataError when it is missing, or larger than any real one."""
    try:
        with path.open("rb") as file:
            found = file.read(LARGEST + 1)
    except OSError as error:
        raise no_room(path, error) or RawDataError(path, "cannot be read", found=error.strerror) from None
    if len(found) > LARGEST:
        raise RawDataError(path, "is too large", expected=f"at most {LARGEST:,} bytes")
    return found


def lines(path: Path) -> list[str]:
    """The lines of a text in UTF-8, without the empty end behind the last. RawDataError as `content`."""
    try:
        found = content(path).decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise RawDataError(path, "is not UTF-8", found=str(error)) from None
    return [line.removesuffix("\r") for line in (found if found[-1] else found[:-1])]
