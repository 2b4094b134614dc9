"""Clean texts, spans and boxes → `data/`: a tar of records per shard, its index, one manifest.

counts.json has the rows of each table that the records hold, by dataset.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
from msgspec import Struct

from contract import index, manifest, params, record
from contract.errors import MismatchError, ShardError
from contract.files import atomic_path, sha256_file
from contract.manifest import DataManifest, ShardFacts, TokenizerFacts
from data_pipeline.engine import run_threads
from data_pipeline.pictures import placement
from data_pipeline.shards import records
from data_pipeline.shards.missing import missing
from data_pipeline.shards.shard_writer import Sample, write_shard
from data_pipeline.tables import TABLES

OUT = Path("data")
CATALOGUE = Path("images/catalogue.parquet")
PARAMS = ("datasets", "boxes", "tokenizer", "seed")  # sections that shape a record; kept in the manifest
REGIONS = ("picture", "region", "name", "crowd", "x0", "y0", "x1", "y1")
TEXTS = (
    *("text", "picture", "role", "content", "tokens", "answer", "type"),
    *("about", "target", "members", "negatives"),
)
ENTITIES = ("text", "start", "end", "token_start", "token_end", "regions", "source")


class Task(Struct):
    """One shard to write: its pictures and what hangs on them, in any order."""

    path: Path
    dataset: str
    split: str
    thumbnails: int
    pictures: pl.DataFrame
    regions: pl.DataFrame
    texts: pl.DataFrame
    entities: pl.DataFrame


def arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(args: argparse.Namespace) -> None:
    """Write data/ whole."""
    settings = params.load(args.params)
    catalogue = pl.read_parquet(CATALOGUE)
    vocabulary = answers(settings, catalogue)
    with atomic_path(OUT) as folder:
        folder.mkdir()
        declared = {name: _declared(name, settings) for name in settings.datasets}
        packed = {name: dict.fromkeys(TABLES, 0) for name in declared}
        tasks = (
            _counted(task, packed[name])
            for name in declared
            for task in _tasks(settings, name, declared[name], catalogue, folder)
        )
        total = sum(map(len, declared.values()))
        facts = dict(run_threads(write, tasks, settings.workers, label="shards", total=total))
        (folder / "counts.json").write_text(json.dumps(packed, indent=1) + "\n")
        lacking = {name: missing(name, catalogue.filter(dataset=name)) for name in declared}
        manifest.save(folder, _manifest(settings, folder, vocabulary, facts, lacking))
    print(f"{OUT}: {len(facts)} shards, {sum(shard.samples for shard in facts.values())} records")


def _tasks(
    settings: params.Params, name: str, declared: Mapping[str, str], catalogue: pl.DataFrame, folder: Path
) -> Iterator[Task]:
    """One task per shard that the dataset declares, with pictures or without."""
    parts = _parts(name, declared, catalogue.filter(dataset=name))
    for shard, split in declared.items():
        held = [part.pop(shard) for part in parts]  # not kept: a shard that is written leaves the memory
        yield Task(folder / f"{shard}.tar", name, split, settings.shards.thumbnails, *held)


def _counted(task: Task, packed: dict[str, int]) -> Task:
    """The task, once its rows are added to those of its dataset, by table."""
    for table, rows in zip(TABLES, (task.pictures, task.texts, task.regions, task.entities), strict=True):
        packed[table] += len(rows)
    return task


def _parts(name: str, declared: Mapping[str, str], pictures: pl.DataFrame) -> list[dict[str, pl.DataFrame]]:
    """Pictures, regions, texts and entities by shard. One table at a time is in memory as a whole."""
    place = pictures.select("picture", pl.col("shard").cast(pl.Categorical))

    def parts(path: str, columns: Sequence[str], place: pl.DataFrame) -> dict[str, pl.DataFrame]:
        return _by_shard(path, pl.read_parquet(path, columns=list(columns)), place, declared)

    path = f"spans/{name}/texts.parquet"
    regions = parts(f"validate/{name}/regions.parquet", REGIONS, place)
    texts = parts(path, TEXTS, place)
    owners = pl.read_parquet(path, columns=["text", "picture"]).unique("text")
    entities = parts(f"spans/{name}/entities.parquet", ENTITIES, owners.select("text", _place(owners, place)))
    keys = pictures.select("picture", "key")
    return [
        _by_shard(f"{name}, pictures", pictures.drop("shard"), place, declared),
        regions,
        {shard: _named_by_key(part, keys) for shard, part in texts.items()},
        entities,
    ]


def _declared(name: str, settings: params.Params) -> dict[str, str]:
    """Shard → its split, for every shard that the dataset's drops open."""
    return {
        placement.shard_name(name, split, first + number): split
        for (_, split), (first, count) in placement.shard_ranges(settings.datasets[name].raw).items()
        for number in range(count)
    }


def _by_shard(
    what: str, table: pl.DataFrame, place: pl.DataFrame, declared: Mapping[str, str]
) -> dict[str, pl.DataFrame]:
    """The table's rows by shard. place: an id of the table and the shard that holds it.

    ShardError where a row has no place, so that every row arrives in a shard or nothing is written.
    """
    placed = table.with_columns(_place(table, place))
    parts = placed.partition_by("shard", as_dict=True, include_key=False)
    found = {shard: parts.get((shard,), table.clear()) for shard in declared}
    if lost := len(table) - sum(map(len, found.values())):
        fix = "the tables are not of one run: dvc repro shards"
        raise ShardError(what, f"{lost} rows have no place in any shard", fix=fix)
    return found


def _place(table: pl.DataFrame, place: pl.DataFrame) -> pl.Series:
    """The shard of each row, null where it has none."""
    name = place.columns[0]
    return table.select(name).join(place, on=name, how="left", maintain_order="left")["shard"]


def _named_by_key(texts: pl.DataFrame, keys: pl.DataFrame) -> pl.DataFrame:
    """Texts with the pictures that they name given by key."""
    found = {name: records.looked_up(texts, name, keys) for name in ("target", "members")}
    return texts.with_columns(
        records.lists(rows["value"], rows["owner"], len(texts)).alias(name) for name, rows in found.items()
    )


def write(task: Task) -> tuple[str, ShardFacts]:
    """Write one tar and its index → (name of the shard, its facts)."""
    encoded = records.encode(task.pictures, task.regions, task.texts, task.entities)
    suffixes = ["json", "jpg"] if task.thumbnails else ["json"]
    written = write_shard(task.path, suffixes, _samples(encoded, task.thumbnails))
    texts = {name: int(encoded[name].sum()) for name in index.COUNTED}
    hashed = sha256_file(index.index_path(task.path))
    return task.path.stem, ShardFacts(
        task.dataset, task.split, written.samples, written.bytes, written.sha256, texts, index=hashed
    )


def _samples(encoded: pl.DataFrame, thumbnails: int) -> Iterator[Sample]:
    json = encoded["json"].cast(pl.Binary)
    counts = encoded.select(index.COUNTED).iter_rows()
    for key, path, content, texts in zip(encoded["key"], encoded["path"], json, counts, strict=True):
        picture = [thumbnail(Path(path), thumbnails)] if thumbnails else []
        yield Sample(key, [content, *picture], texts)


def thumbnail(path: Path, side: int) -> bytes:
    """A picture file as JPEG. What decodes pictures is loaded only where thumbnails are asked for."""
    from data_pipeline.pictures import thumbnails
    from data_pipeline.pictures.picture_files import decode_rgb

    return thumbnails.thumbnail(decode_rgb(path), side)


def answers(settings: params.Params, catalogue: pl.DataFrame) -> list[str]:
    """Answers to the questions of every train split, the most frequent first, then by name."""
    train = catalogue.filter(split="train").select("dataset", "picture")
    parts = []
    for name in settings.datasets:
        texts = pl.read_parquet(f"spans/{name}/texts.parquet", columns=["picture", "role", "answer"])
        asked = texts.filter(pl.col("answer").is_not_null(), role="question")
        parts.append(asked.join(train.filter(dataset=name), on="picture", how="semi").select("answer"))
    counted = pl.concat(parts).group_by("answer").len()
    return counted.sort(["len", "answer"], descending=[True, False])["answer"].to_list()


def _manifest(
    settings: params.Params,
    folder: Path,
    vocabulary: list[str],
    facts: Mapping[str, ShardFacts],
    lacking: manifest.Missing,
) -> DataManifest:
    sections: dict[str, Any] = {name: msgspec.to_builtins(getattr(settings, name)) for name in PARAMS}
    return DataManifest(
        format=record.FORMAT_VERSION,
        schema=record.fingerprint(),
        tokenizer=_copy_tokenizer(settings, folder),
        answers=vocabulary,
        shards=dict(sorted(facts.items())),
        params=sections,
        missing=lacking,
    )


def _copy_tokenizer(settings: params.Params, folder: Path) -> TokenizerFacts:
    """Lay the tokenizer that made the tokens beside them. MismatchError when datasets had different ones."""
    first, *rest = (Path("spans", name, "tokenizer.json") for name in settings.datasets)
    digest = sha256_file(first)
    for other in rest:
        if (found := sha256_file(other)) != digest:
            fix = "run stage spans of every dataset again (dvc repro)"
            raise MismatchError(other, f"is not {first}", found=found, expected=digest, fix=fix)
    (folder / "tokenizer.json").write_bytes(first.read_bytes())
    return TokenizerFacts(settings.tokenizer.name, digest)
