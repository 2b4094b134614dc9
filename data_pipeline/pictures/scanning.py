"""One picture file → what it is, or what is wrong with it. Imports little: worker processes run this."""

import builtins
from pathlib import Path, PurePosixPath

from msgspec import Struct

from contract.errors import RawDataError
from data_pipeline.pictures.picture_files import Picture, decode, extension_fits, perceptual_hash, read, thumb
from data_pipeline.tables import Outcome


class Task(Struct):
    """Some files of a dataset, relative to its folder."""

    folder: str
    files: list[str]


class Scanned(Struct):
    """A sound file."""

    path: str
    bytes: int
    sha256: str
    format: str
    mode: str
    width: int
    height: int
    phash: int  # 64 bits
    thumb: builtins.bytes  # 8×8 RGB


class Trouble(Struct):
    """What is wrong with a file."""

    outcome: Outcome
    reason: str
    detail: str


Result = tuple[Scanned | None, Trouble | None]  # a flagged file has both


def scan(task: Task) -> list[Result]:
    """Per file, in order."""
    return [_scan_file(Path(task.folder), file) for file in task.files]


def _scan_file(folder: Path, file: str) -> Result:
    if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
        return None, Trouble("reject", "picture_missing", f"{file} leaves the dataset's folder")
    path = folder / file
    reason = "picture_missing"
    try:
        content = read(path)
        reason = "picture_damaged"
        scanned = _describe(decode(content, path), path)
    except RawDataError as error:
        return None, Trouble("reject", reason, str(error.found or error.problem))
    if extension_fits(path, scanned.format):
        return scanned, None
    detail = f"{scanned.format} inside {path.suffix or 'no extension'}"
    return scanned, Trouble("flag", "picture_extension", detail)


def _describe(picture: Picture, path: Path) -> Scanned:
    pixels = picture.pixels
    return Scanned(
        path=path.as_posix(),
        bytes=picture.size,
        sha256=picture.sha256,
        format=picture.format,
        mode=picture.mode,
        width=picture.width,
        height=picture.height,
        phash=perceptual_hash(pixels),
        thumb=thumb(pixels),
    )
