"""What stands in the members of a shard: records, arrays and negatives against schema and manifest."""

from collections.abc import Container, Iterator

import numpy as np
from msgspec import Struct

from contract import codec, index
from contract.errors import ShardError
from contract.index import count_texts
from contract.manifest import FeatureManifest
from contract.record import Near, Negatives, Record, problems
from data_pipeline.pictures.placement import key as key_of
from data_pipeline.shards import shard_reader
from data_pipeline.shards.verifying import Column, Fault, fault, of_error

REBUILD = "rebuild it (dvc repro)"


class Seen(Struct):
    """A picture of a record shard, for the search for leakage."""

    place: str
    group: str
    sha256: str


def check_records(
    column: Column, shard: str, vocabulary: int | None, keys: Container[str]
) -> tuple[list[Fault], dict[str, Record]]:
    """Faults, and the records that could be read, by key. keys: of all pictures of the dataset and split."""
    path, faults, records = column.tar(shard), [], {}
    counts = index.load(path).rows["texts"].tolist()
    for (key, content, _), counted in zip(shard_reader.members(path, "json"), counts, strict=True):
        try:
            records[key] = codec.decode_record(content, f"{path}/{key}")
        except ShardError as error:
            faults.append(of_error(error))
            continue
        wrong = _record_problems(key, records[key], counted, vocabulary, keys)
        faults += [fault(path, f"record {key}: {problem}", REBUILD) for problem in wrong]
    return faults, records


def _record_problems(
    key: str, record: Record, counted: list[int], vocabulary: int | None, keys: Container[str]
) -> Iterator[str]:
    yield from problems(record, vocabulary)
    if key_of(record.id) != key:
        yield f"is of picture {record.id}, whose key is {key_of(record.id)}"
    if list(count_texts(record)) != counted:
        yield f"has {count_texts(record)} usable texts; the index says {counted}"
    for text in record.texts:
        lost = [name for name in (*text.target, *text.members) if name not in keys]
        if lost:
            yield f"text {text.id} names {', '.join(lost)}, which this dataset and split do not hold"


def check_features(column: Column, shard: str, known: FeatureManifest) -> Iterator[Fault]:
    """Shape, type and finite values of every array."""
    path = column.tar(shard)
    for suffix in known.suffixes:
        for key, content, absent in shard_reader.members(path, suffix):
            name = f"{path}/{key}.{suffix}"
            try:
                array = codec.decode_array(content, name)
            except ShardError as error:
                yield of_error(error)
                continue
            tokens = 0 if absent else known.tokens
            scale = suffix.endswith(".scale.npy")
            expected = ("float32", (tokens,)) if scale else (known.dtype, (tokens, known.width))
            if (str(array.dtype), array.shape) != expected:
                yield fault(path, f"{key}.{suffix} is {array.dtype} {array.shape}, not {expected}", REBUILD)
            elif not np.isfinite(array).all():
                yield fault(path, f"{key}.{suffix} holds values that are not finite", REBUILD)


def check_negatives(
    column: Column, shard: str, keys: Container[str], records: dict[str, Record]
) -> Iterator[Fault]:
    """Neighbours that exist, and texts that the picture has. keys: as in check_records."""
    path = column.tar(shard)
    for key, content, _ in shard_reader.members(path, "neg.json"):
        try:
            negatives = codec.decode_negatives(content, f"{path}/{key}")
        except ShardError as error:
            yield of_error(error)
            continue
        for problem in _negative_problems(key, negatives, keys, records.get(key)):
            yield fault(path, f"negatives of {key}: {problem}", REBUILD)


def _negative_problems(
    key: str, negatives: Negatives, keys: Container[str], record: Record | None
) -> Iterator[str]:
    for near in (negatives.pictures, *(text.near for text in negatives.texts.values())):
        yield from _near_problems(near, keys)
    if key in negatives.pictures.key:
        yield "the picture is its own neighbour"
    known = {text.id for text in record.texts} if record else set(negatives.texts)
    if strangers := sorted(set(negatives.texts) - known):
        yield f"of texts that the picture does not have: {', '.join(strangers[:3])}"


def _near_problems(near: Near, keys: Container[str]) -> Iterator[str]:
    if not len(near.key) == len(near.text) == len(near.score):
        yield "key, text and score differ in length"
    if lost := [key for key in near.key if key not in keys]:
        yield f"names {', '.join(lost[:3])}, which this dataset and split do not hold"


def leakage(train: list[Seen], evaluation: list[Seen]) -> Iterator[Fault]:
    """Pictures of an evaluation split that a train shard holds as well, by group or by the file's bytes."""
    for evidence in ("group", "sha256"):
        held = {getattr(seen, evidence): seen.place for seen in evaluation}
        for seen in train:
            if twin := held.get(getattr(seen, evidence)):
                problem = f"is in a train shard and, by {evidence}, in an evaluation split: {twin}"
                yield Fault(seen.place, problem, "build stage images again and all that follows (dvc repro)")
