"""Pictures of one shard → one tar of features in `.work/`, found again by its task key in a later run.

A task is pure and idempotent: its key hashes everything that shapes its bytes. The work folder holds per key
the tar, its index and, written last, `<key>.json` with what became of the pictures.
"""

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray

from contract import codec
from contract.errors import RawDataError
from contract.files import write_atomic
from contract.index import index_path
from contract.manifest import WeightsFacts
from contract.params import Encoder
from data_pipeline.features import encode
from data_pipeline.features.encode import Frozen
from data_pipeline.pictures import picture_files
from data_pipeline.shards.shard_writer import Sample, Written, write_shard

FORMAT = 1  # raise when the tars change for another reason than the encoder
DECODERS = 2  # threads that decode the next batch meanwhile
NOT_FINITE, DAMAGED = "feature_not_finite", "picture_damaged"
NOT_SHAPING = ("weights", "allow_demo_weights")  # the hash of the weights counts, not where they lie


class Picture(Struct):
    """A row of the catalogue."""

    key: str
    path: str
    sha256: str


class Facts(Struct):
    """What the encoder turned out to be. tokens, width: N and D of its features."""

    weights: WeightsFacts
    version: int
    cls: bool
    tokens: int
    width: int


class Absent(Struct):
    """A picture that has no features, and why."""

    key: str
    reason: str
    detail: str


class Done(Struct):
    """A finished tar. absent: pictures whose array is empty."""

    written: Written
    absent: list[Absent]


class Task(Struct):
    """One shard. column: the encoder's name, part of the members' names. work: folder of finished tars."""

    column: str
    settings: Encoder
    facts: Facts
    pictures: list[Picture]
    work: str

    @property
    def key(self) -> str:
        """Hex sha256 of all that shapes the tar; neither the shard's name nor the pictures' paths do."""
        shaping = {k: v for k, v in msgspec.to_builtins(self.settings).items() if k not in NOT_SHAPING}
        pictures = [(picture.key, picture.sha256) for picture in self.pictures]
        parts = [FORMAT, self.column, shaping, self.facts.weights.sha256, self.facts.version, pictures]
        return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()

    @property
    def tar(self) -> Path:
        return Path(self.work, f"{self.key}.tar")


def describe(settings: Encoder) -> Facts:
    """Build the encoder once and say what it is; every mistake in its settings shows here."""
    frozen = encode.load(settings)
    return Facts(frozen.weights, frozen.version, frozen.model.has_cls, frozen.tokens, frozen.model.width)


def finished(task: Task) -> Done | None:
    """The result of an earlier run, if it is there whole."""
    record, tar = task.tar.with_suffix(".json"), task.tar
    if not (record.is_file() and tar.is_file() and index_path(tar).is_file()):
        return None
    done = msgspec.json.decode(record.read_bytes(), type=Done)
    return done if tar.stat().st_size == done.written.bytes else None


def encode_shard(task: Task) -> Done:
    """Encode the task's pictures and leave the tar in the work folder."""
    torch.set_num_threads(task.settings.threads)
    frozen = _loaded(msgspec.json.encode(task.settings))
    absent: list[Absent] = []
    samples = _samples(frozen, task.pictures, absent)
    done = Done(write_shard(task.tar, [f"{task.column}.npy"], samples), absent)
    write_atomic(task.tar.with_suffix(".json"), msgspec.json.encode(done))
    return done


@lru_cache(maxsize=1)
def _loaded(settings: bytes) -> Frozen:
    """A worker builds its encoder once."""
    return encode.load(msgspec.json.decode(settings, type=Encoder))


def _samples(frozen: Frozen, pictures: Sequence[Picture], absent: list[Absent]) -> Iterator[Sample]:
    """Samples in the order of the pictures; notes in `absent` those without features."""
    nothing = codec.encode_array(np.zeros((0, frozen.model.width), np.float16))
    for key, found in _encoded(frozen, pictures):
        stored = found if isinstance(found, Absent) else to_float16(key, found)
        if isinstance(stored, Absent):
            absent.append(stored)
            yield Sample(key, [nothing], absent=True)
        else:
            yield Sample(key, [codec.encode_array(stored)])


def to_float16(key: str, tokens_ND: NDArray[np.float32]) -> NDArray[np.float16] | Absent:
    """The array as stored, or why it cannot be."""
    if not np.isfinite(tokens_ND).all():
        return Absent(key, NOT_FINITE, f"{np.count_nonzero(~np.isfinite(tokens_ND))} values are not finite")
    with np.errstate(over="ignore"):
        stored = tokens_ND.astype(np.float16)
    if not np.isfinite(stored).all():
        return Absent(key, NOT_FINITE, f"{np.abs(tokens_ND).max():.6g} is beyond float16")
    return stored


def _encoded(
    frozen: Frozen, pictures: Sequence[Picture]
) -> Iterator[tuple[str, NDArray[np.float32] | Absent]]:
    """(key, tokens [N,D]) per picture. Every batch has the same size, so that its filling changes no bit."""
    size = frozen.settings.size
    for batch in _read(frozen.settings, pictures):
        inputs = np.zeros((frozen.settings.batch, size, size, 3), np.uint8)
        for row, (_, pixels) in enumerate(batch):
            if not isinstance(pixels, Absent):
                inputs[row] = pixels
        tokens = encode.encode(frozen, inputs)
        for row, (key, pixels) in enumerate(batch):
            yield key, pixels if isinstance(pixels, Absent) else tokens[row]


Read = tuple[str, NDArray[np.uint8] | Absent]


def _read(settings: Encoder, pictures: Sequence[Picture]) -> Iterator[list[Read]]:
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
    return picture.key, encode.transform(pixels, settings)


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
