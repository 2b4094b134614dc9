"""What stands in the members of a shard: records, arrays and negatives against schema and manifest."""

from collections import Counter
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

import numpy as np
from msgspec import Struct

from contract import codec, index
from contract.errors import ShardError
from contract.index import count_texts
from contract.manifest import ExportManifest, FeatureManifest
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
    known = index.load(path)
    counts = known.rows["texts"].tolist() if known.hashed else [None] * len(known)
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
    key: str, record: Record, counted: list[int] | None, vocabulary: int | None, keys: Container[str]
) -> Iterator[str]:
    yield from problems(record, vocabulary)
    if key_of(record.id) != key:
        yield f"is of picture {record.id}, whose key is {key_of(record.id)}"
    if counted is not None and list(count_texts(record)) != counted:
        yield f"has {count_texts(record)} usable texts; the index says {counted}"
    for text in record.texts:
        lost = [name for name in (*text.target, *text.members) if name not in keys]
        if lost:
            yield f"text {text.id} names {', '.join(lost)}, which this dataset and split do not hold"


def check_features(column: Column, shard: str, known: FeatureManifest) -> Iterator[Fault]:
    """Shape, type and finite values of every array.

    Only an index can say which pictures the encoder could not take, and an export's has several encoders:
    without its word any array may be empty.
    """
    path = column.tar(shard)
    flagged = index.load(path).hashed and not isinstance(column.manifest, ExportManifest)
    for suffix in known.suffixes:
        for key, content, absent in shard_reader.members(path, suffix):
            name = f"{path}/{key}.{suffix}"
            try:
                array = codec.decode_array(content, name)
            except ShardError as error:
                yield of_error(error)
                continue
            tokens = 0 if absent or (not flagged and array.shape[:1] == (0,)) else known.tokens
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
    if len(near.content) != len(near.tokens) or len(near.content) not in (0, len(near.text)):
        yield "text, content and tokens differ in length"
    if lost := [key for key in near.key if key not in keys]:
        yield f"names {', '.join(lost[:3])}, which this dataset and split do not hold"


def leakage(train: list[Seen], evaluation: list[Seen]) -> Iterator[Fault]:
    """Pictures of an evaluation split that a train shard holds as well, by group or by the file's bytes."""
    groups = {seen.group: seen.place for seen in evaluation}
    files = {seen.sha256: seen.place for seen in evaluation}
    for seen in train:
        twins = {"group": groups.get(seen.group), "sha256": files.get(seen.sha256)}
        found = {evidence: place for evidence, place in twins.items() if place}
        if found:
            places = ", ".join(dict.fromkeys(found.values()))
            problem = f"is in a train shard and, by {' and '.join(found)}, in an evaluation split: {places}"
            yield Fault(seen.place, problem, "build stage images again and all that follows (dvc repro)")


def answers(records: Iterable[Record]) -> Counter[str]:
    """How many questions have each answer."""
    asked = (text for record in records for text in record.texts if text.role == "question")
    return Counter(text.answer for text in asked if text.answer is not None)


def check_answers(path: Path, vocabulary: list[str], counted: Counter[str]) -> Iterator[Fault]:
    """The vocabulary in the manifest at `path` against the answers of all train shards."""
    expected = sorted(counted, key=lambda answer: (-counted[answer], answer))
    if vocabulary != expected:
        problem = "its answers are not those of the train shards, the most frequent first and then by name"
        yield fault(path, problem, REBUILD)
