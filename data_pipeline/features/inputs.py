"""Picture files → an encoder's inputs, in batches, decoded ahead of the encoder by threads of their own."""

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from msgspec import Struct

from contract.errors import RawDataError
from contract.params import Encoder
from data_pipeline.features.stored_form import DAMAGED, Absent
from data_pipeline.features.transforms import transform
from data_pipeline.pictures import picture_files
from data_pipeline.pictures.picture_files import Pixels

DECODERS = 2  # threads that decode the next batch meanwhile


class Picture(Struct):
    """A row of the catalogue."""

    key: str
    path: str
    sha256: str


Read = tuple[str, Pixels | Absent]  # a picture's key and its input, uint8 [S,S,3]


def batches(settings: Encoder, pictures: Sequence[Picture]) -> Iterator[list[Read]]:
    """Batches of inputs, one batch ahead of the encoder."""
    rest, ahead = iter(pictures), deque[Iterator[Read]]()
    with ThreadPoolExecutor(DECODERS) as threads:
        while batch := list(islice(rest, settings.batch)):
            ahead.append(threads.map(lambda picture: _read_one(settings, picture), batch))
            if len(ahead) > 1:
                yield list(ahead.popleft())
        while ahead:
            yield list(ahead.popleft())


def _read_one(settings: Encoder, picture: Picture) -> Read:
    """The picture as the encoder's input. RawDataError when it is not the file that the scan saw."""
    path = Path(picture.path)
    content = _as_scanned(path, picture.sha256)
    try:
        pixels = picture_files.decode(content, path).pixels
    except RawDataError as error:
        return picture.key, Absent(picture.key, DAMAGED, str(error.found or error.problem))
    return picture.key, transform(pixels, settings.transform, settings.size)


def _as_scanned(path: Path, sha256: str) -> bytes:
    """The bytes that the scan saw. A file that is gone or another is no fault of the picture: an error."""
    fix = "mount or restore it, or run the stages scan and images again (dvc repro)"
    try:
        content = picture_files.read(path)
    except RawDataError as error:
        raise RawDataError(path, "is gone since it was scanned", found=error.found, fix=fix) from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise RawDataError(path, "has changed since it was scanned", fix=fix)
    return content
