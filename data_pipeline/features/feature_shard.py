"""Pictures of one shard → one tar of features in `.work/`, found again by its task key in a later run.

A task is pure and idempotent: its key hashes everything that shapes its bytes. The work folder holds per key
the tar, its index and, written last, `<key>.json` with what became of the pictures.
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray

from contract import codec
from contract.column import Dtype, suffixes
from contract.files import write_atomic
from contract.index import index_path
from contract.manifest import WeightsFacts
from contract.params import Encoder
from data_pipeline.features import encode
from data_pipeline.features.encode import Frozen
from data_pipeline.features.inputs import Picture, batches
from data_pipeline.features.statistics import Gathering, ShardStatistics
from data_pipeline.features.stored_form import Absent, nothing, stored
from data_pipeline.shards.shard_writer import Sample, Written, write_shard

FORMAT = 3  # raise when the tars change for another reason than the encoder
NOT_SHAPING = ("weights", "allow_demo_weights")  # the hash of the weights counts, not where they lie


class Facts(Struct):
    """What the encoder turned out to be. tokens, width: N and D of its features. mean, std: of its pixels.

    config: hash of the model's own configuration, where it has one.
    """

    weights: WeightsFacts
    config: str
    version: int
    cls: bool
    tokens: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Done(Struct):
    """A finished tar. absent: pictures whose arrays are empty."""

    written: Written
    absent: list[Absent]
    statistics: ShardStatistics


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
        facts = self.facts
        code, pixels = (FORMAT, facts.version), (facts.mean, facts.std)
        model = (facts.weights.sha256, facts.config)
        parts = [code, self.column, shaping, model, pixels, pictures]
        return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()

    @property
    def tar(self) -> Path:
        return Path(self.work, f"{self.key}.tar")


def identify(settings: Encoder) -> Facts:
    """Build the encoder once and say what it is; every mistake in its settings shows here."""
    frozen = encode.load(settings)
    model = frozen.model
    return Facts(
        frozen.weights,
        model.config,
        frozen.version,
        model.has_cls,
        frozen.tokens,
        model.width,
        model.mean,
        model.std,
    )


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
    absent, statistics = list[Absent](), Gathering(frozen.model.width)
    samples = _samples(frozen, task.pictures, absent, statistics)
    written = write_shard(task.tar, suffixes(task.column, task.settings.dtype), samples)
    done = Done(written, absent, statistics.done())
    write_atomic(task.tar.with_suffix(".json"), msgspec.json.encode(done))
    return done


@lru_cache(maxsize=1)
def _loaded(settings: bytes) -> Frozen:
    """A worker builds its encoder once."""
    return encode.load(msgspec.json.decode(settings, type=Encoder))


def _samples(
    frozen: Frozen, pictures: Sequence[Picture], absent: list[Absent], statistics: Gathering
) -> Iterator[Sample]:
    """Samples in the order of the pictures; notes in `absent` those without features."""
    dtype = frozen.settings.dtype
    empty = [codec.encode_array(array) for array in nothing(frozen.model.width, dtype)]
    for key, found in _encoded(frozen, pictures):
        members = _members(key, found, dtype, statistics)
        if isinstance(members, Absent):
            absent.append(members)
            yield Sample(key, empty, absent=True)
        else:
            yield Sample(key, members)


def _members(
    key: str, found: NDArray[np.float32] | Absent, dtype: Dtype, statistics: Gathering
) -> list[bytes] | Absent:
    """A picture's members in the tar; counts it."""
    if isinstance(found, Absent):
        return found
    arrays = stored(key, found, dtype)
    if isinstance(arrays, Absent):
        return arrays
    members = [codec.encode_array(array) for array in arrays]
    statistics.add(found, b"".join(members))
    return members


def _encoded(
    frozen: Frozen, pictures: Sequence[Picture]
) -> Iterator[tuple[str, NDArray[np.float32] | Absent]]:
    """(key, tokens [N,D]) per picture. Every batch has the same size, so that its filling changes no bit."""
    size = frozen.settings.size
    for batch in batches(frozen.settings, pictures):
        inputs = np.zeros((frozen.settings.batch, size, size, 3), np.uint8)
        for row, (_, pixels) in enumerate(batch):
            if not isinstance(pixels, Absent):
                inputs[row] = pixels
        tokens = encode.encode(frozen, inputs)
        for row, (key, pixels) in enumerate(batch):
            yield key, pixels if isinstance(pixels, Absent) else tokens[row]
