"""Records of a file that holds one JSON array, or one JSON value a line: the content tells, not the name."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Raw

from contract.codec import UNDECODABLE
from contract.errors import RawDataError
from data_pipeline.reading.json_stream import members_of_array

SUFFIXES = (".json", ".jsonl")
BOM = b"\xef\xbb\xbf"
LONGEST_LINE = 1 << 24  # bytes; a longer one is no record
START = 1 << 16  # bytes that must hold more than blanks


def record_files(folder: Path, stems: str = "*") -> list[str]:
    """Names of the files in a folder that `records` may read, sorted; no copies, no packed ones."""
    return sorted(path.name for path in folder.glob(f"{stems}.json*") if path.suffix in SUFFIXES)


def records(path: Path) -> Iterator[tuple[str, Raw]]:
    """(index or line as text, from 0; value). A line that is no JSON fails where it is decoded, alone.

    RawDataError names the file, and the line or byte.
    """
    with path.open("rb") as file:
        start = file.read(START).removeprefix(BOM).lstrip()
    if not start:
        raise RawDataError(path, "is empty", fix="download or copy it again")
    yield from members_of_array(path) if start.startswith(b"[") else _lines(path)


def _lines(path: Path) -> Iterator[tuple[str, Raw]]:
    with path.open("rb") as file:
        lines = iter(lambda: file.readline(LONGEST_LINE + 1), b"")
        for number, line in enumerate(lines):
            if len(line) > LONGEST_LINE:
                expected = f"at most {LONGEST_LINE:,} bytes"
                raise RawDataError(
                    f"{path}, line {number + 1:,}", "is too long for a record", expected=expected
                )
            if content := line.removeprefix(BOM).strip():
                _check_end(path, number, line)
                yield str(number), Raw(content)


def _check_end(path: Path, number: int, line: bytes) -> None:
    """A line that the file's end cuts would be one bad record, and all after it would not be missed."""
    if not line.endswith(b"\n") and _is_cut(line.removeprefix(BOM)):
        raise RawDataError(
            f"{path}, line {number + 1:,}",
            "the file ends in the middle of a record",
            fix="download or copy it again; an unfinished last line can also be taken out",
        )


def _is_cut(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except UNDECODABLE as error:
        return "truncated" in str(error)
    return False
