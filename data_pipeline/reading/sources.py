"""What a reader is given, and how it says what it found.

A reader is a module `data_pipeline/readers/<format>.py` with one function,

    read(source: Source) -> Iterator[tables.Given]

which yields images, texts, regions, entities and findings as they come, in an order that depends on the
files alone. Every record of the drop becomes a row or a reject, or is counted as tables.PassedOver. Nothing
else is to be done for a new dataset format than to add that file and an entry in params.yaml. For files with
millions of records it may yield blocks of rows too (tables.Block): twice as fast, and nothing else.

What a reader holds is undecoded: the mapped file and the places of its members (json_stream), of one file at
a time, or of two that must be joined (Visual Genome's objects with attributes and graphs, RefCOCO's
expressions with their boxes). Decoded it holds ids, of pictures and of texts that must not repeat, and the
rows of one record or block.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path, PurePosixPath
from pkgutil import iter_modules
from typing import Any, NamedTuple

from msgspec import Raw, Struct

import data_pipeline.readers
from contract.errors import RawDataError, unknown_name
from contract.params import Dataset
from data_pipeline.reading.raw_files import RawFiles
from data_pipeline.tables import Finding, Given

Reader = Callable[["Source"], Iterator[Given]]


class Source(Struct, frozen=True):
    """One drop of a dataset."""

    folder: Path  # the dataset's
    path: str  # the drop's, relative to `folder`
    drop: int  # its number in params.yaml
    splits: tuple[str, ...]  # what the drop's `shards` names
    options: Mapping[str, Any]  # the reader's own
    where: str  # "params.yaml: datasets.gqa", for errors
    raw_files: RawFiles  # what `find` found

    @property
    def root(self) -> Path:
        return self.folder / self.path

    def file(self, inside: str) -> str:
        """A path inside the drop, relative to the dataset's folder."""
        return str(PurePosixPath(self.path) / inside)

    def find(self, *places: str, official: str) -> Path:
        """The first of these paths that is there, noted as read; RawDataError names what to download."""
        for place in places:
            if (self.root / place).exists():
                self.raw_files.note(self.root / place)
                return self.root / place
        what = "no such folder" if not self.root.is_dir() else f"holds no {places[0]}"
        fix = f"put {official} there, or name another folder in {self.where}"
        raise RawDataError(self.root, what, expected=" or ".join(places), fix=fix)

    def at(self, path: Path) -> "At":
        """The whole of one of the drop's files."""
        return At(self.drop, path.relative_to(self.folder).as_posix(), "")

    def note(self, text: str) -> None:
        """Something that a person should know and that is no fault of a record."""
        print(f"note: {self.where}: {text}", file=sys.stderr)


class At(NamedTuple):
    """Where a record stands: three columns of every table."""

    drop: int  # its number in params.yaml: ids may repeat in another
    source_file: str  # relative to the dataset's folder
    position: str  # JSON pointer

    def inside(self, *keys: str) -> "At":
        """A part of the record: the member of that key, a member of it, …"""
        return At(self.drop, self.source_file, self.position + "".join(map(pointer, keys)))

    @property
    def name(self) -> str:
        """The id of a record that has none of its own."""
        return self.source_file + self.position


def pointer(key: str) -> str:
    """A step of a JSON pointer (RFC 6901)."""
    return "/" + key.replace("~", "~0").replace("/", "~1")


def reject(table: str, name: str, reason: str, at: At, record: object, detail: str = "") -> Finding:
    """The finding of a record that is left out."""
    return Finding(table, name, "reject", reason, detail, _json(record), at.source_file, at.position)


def flag(table: str, name: str, reason: str, at: At, record: object, detail: str = "") -> Finding:
    """The finding of a record that is odd and stays."""
    return Finding(table, name, "flag", reason, detail, _json(record), at.source_file, at.position)


def _json(record: object) -> str:
    """A record as it stands in the file, if that is what it is."""
    if isinstance(record, Raw | bytes):
        return bytes(record).decode("utf8", "replace")
    return json.dumps(record, ensure_ascii=False)


def sources(name: str, dataset: Dataset, raw_files: RawFiles) -> list[Source]:
    """The drops of a dataset, in the order of params.yaml. raw_files: takes note of what is opened."""
    where = f"params.yaml: datasets.{name}"
    return [
        Source(Path(dataset.folder), drop.path, number, tuple(drop.shards), dataset.options, where, raw_files)
        for number, drop in enumerate(dataset.raw)
    ]


def reader(name: str, where: object) -> Reader:
    """The `read` of readers/<name>.py. ParamsError lists the formats there are."""
    formats = {module.name for module in iter_modules(data_pipeline.readers.__path__)}
    if name not in formats:
        raise unknown_name(where, "format", name, formats)
    found: Reader = import_module(f"data_pipeline.readers.{name}").read
    return found
