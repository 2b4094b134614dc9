"""A shard and its columns → one self-contained tar: the members of every column side by side."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from contract import index
from contract.errors import ShardError
from contract.files import sha256_file
from contract.manifest import ShardFacts
from data_pipeline.shards import shard_reader
from data_pipeline.shards.shard_writer import Sample, write_shard


class Task(Struct):
    """One tar to write from those of the columns, the records' first. facts: of the record shard."""

    sources: list[Path]
    target: Path
    facts: ShardFacts


def export_shard(task: Task) -> tuple[str, ShardFacts]:
    """(name of the shard, its facts). ShardError on damage, or columns that are not of the same pictures.

    The bytes depend on those of the sources alone.
    """
    suffixes = [suffix for source in task.sources for suffix in _suffixes(source)]
    written = write_shard(task.target, suffixes, _samples(task.sources))
    return task.target.stem, ShardFacts(
        task.facts.dataset,
        task.facts.split,
        written.samples,
        written.bytes,
        written.sha256,
        task.facts.texts,
        index=sha256_file(index.index_path(task.target)),
    )


def _suffixes(source: Path) -> Sequence[str]:
    return index.load(source).suffixes


def _samples(sources: Sequence[Path]) -> Iterator[Sample]:
    """One sample per picture. A picture that an encoder could not take keeps its empty array."""
    records = index.load(sources[0])
    columns = [(source, suffix) for source in sources for suffix in _suffixes(source)]
    readers = [shard_reader.members(source, suffix) for source, suffix in columns]
    _check_lengths(sources, len(records))
    for key, texts, *members in zip(records.keys(), records.rows["texts"].tolist(), *readers, strict=True):
        for (source, _), (other, _, _) in zip(columns, members, strict=True):
            if other != key:
                raise _strangers(source, sources[0], f"{other} where the records have {key}")
        yield Sample(key, [content for _, content, _ in members], tuple(texts))


def _check_lengths(sources: Sequence[Path], samples: int) -> None:
    for source in sources[1:]:
        if (found := len(index.load(source))) != samples:
            raise _strangers(source, sources[0], f"{found} pictures, not {samples}")


def _strangers(source: Path, records: Path, found: str) -> ShardError:
    return ShardError(
        source, f"is not of the pictures of {records}", found=found, fix="dvc repro, or fetch both"
    )
