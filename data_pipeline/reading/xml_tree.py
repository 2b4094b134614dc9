"""XML of strangers → elements. A document type is refused: without it there are no entities to expand."""

from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from contract.errors import RawDataError
from data_pipeline.reading.small_file import content

DEEPEST = 32  # elements inside each other


class _Refused(Exception):
    """The file holds what no annotation file needs."""


class _Tree:
    """What the parser calls, and the tree that comes of it."""

    def __init__(self) -> None:
        self._builder = TreeBuilder()
        self._depth = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise _Refused(f"elements lie more than {DEEPEST} deep")
        self._builder.start(tag, attributes)

    def end(self, tag: str) -> None:
        self._depth -= 1
        self._builder.end(tag)

    def document_type(self, *_: object) -> NoReturn:
        raise _Refused("declares a document type")

    def parse(self, text: bytes) -> Element:
        parser = expat.ParserCreate()
        parser.StartElementHandler, parser.EndElementHandler = self.start, self.end
        parser.CharacterDataHandler = self._builder.data
        parser.StartDoctypeDeclHandler = self.document_type
        parser.Parse(text, True)
        return self._builder.close()


def parse(path: Path) -> Element:
    """The root of a small XML file. RawDataError names the file and what is wrong with it."""
    try:
        return _Tree().parse(content(path))
    except (expat.ExpatError, _Refused, LookupError, ValueError) as error:
        raise RawDataError(path, "is not XML that can be read", found=str(error)) from None
