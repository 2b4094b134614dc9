"""Clean texts, spans and boxes → `data/`: a tar of records per shard, its index, one manifest."""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
from msgspec import Struct

from contract import codec, index, manifest, params, record
from contract.errors import MismatchError, ShardError
from contract.files import atomic_path, sha256_file
from contract.manifest import DataManifest, ShardFacts, TokenizerFacts
from data_pipeline.engine import run_tasks
from data_pipeline.pictures import placement
from data_pipeline.shards import records
from data_pipeline.shards.shard_writer import Sample, write_shard

OUT = Path("data")
CATALOGUE = Path("images/catalogue.parquet")
JPEG_QUALITY = 85
PARAMS = ("datasets", "boxes", "tokenizer", "seed")  # sections that shape a record; kept in the manifest


class Task(Struct):
    """One shard to write: its pictures (ascending keys) and what hangs on them."""

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
        tasks = [task for name in settings.datasets for task in _tasks(settings, name, catalogue, folder)]
        facts = dict(run_tasks(write, tasks, settings.workers, label="shards"))
        manifest.save(folder, _manifest(settings, folder, vocabulary, facts))
    print(f"{OUT}: {len(facts)} shards, {sum(shard.samples for shard in facts.values())} records")


def _tasks(settings: params.Params, name: str, catalogue: pl.DataFrame, folder: Path) -> Iterator[Task]:
    """One task per shard that the dataset declares, with pictures or without."""
    pictures = catalogue.filter(dataset=name).sort("key")
    texts = _named_by_key(pl.read_parquet(f"spans/{name}/texts.parquet"), pictures)
    regions = records.with_rounded_boxes(pl.read_parquet(f"validate/{name}/regions.parquet"))
    entities = pl.read_parquet(f"spans/{name}/entities.parquet")
    parts = [
        _by_shard(pictures, pictures),
        _by_shard(regions, pictures),
        _by_shard(texts, pictures),
        _by_shard(entities.join(texts.select("text", "picture"), on="text"), pictures),
    ]
    tables = {"pictures": pictures, "regions": regions, "texts": texts, "entities": entities}
    declared = _declared(name, settings)
    for (kind, table), part in zip(tables.items(), parts, strict=True):
        _check_whole(f"{name}, {kind}", len(table), sum(len(part[s]) for s in declared if s in part))
    empty = [table.clear() for table in tables.values()]
    for shard, split in declared.items():
        held = [part.get(shard, none) for part, none in zip(parts, empty, strict=True)]
        yield Task(folder / f"{shard}.tar", name, split, settings.shards.thumbnails, *held)


def _declared(name: str, settings: params.Params) -> dict[str, str]:
    """Shard → its split, for every shard that the dataset's drops open."""
    return {
        placement.shard_name(name, split, first + number): split
        for (_, split), (first, count) in placement.shard_ranges(settings.datasets[name].raw).items()
        for number in range(count)
    }


def _check_whole(what: str, rows: int, placed: int) -> None:
    """Every row of the clean tables arrives in a shard, or nothing is written."""
    if rows != placed:
        fix = "the tables are not of one run: dvc repro shards"
        raise ShardError(what, f"{rows - placed} rows have no place in any shard", fix=fix)


def _by_shard(table: pl.DataFrame, pictures: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The table's rows, in their order, by the shard that holds their picture."""
    if "shard" not in table.columns:
        table = table.join(pictures.select("picture", "shard"), on="picture", maintain_order="left")
    return {str(shard): part for (shard,), part in table.partition_by("shard", as_dict=True).items()}


def _named_by_key(texts: pl.DataFrame, pictures: pl.DataFrame) -> pl.DataFrame:
    """Texts with the pictures that they name given by key."""
    key = pl.element().replace_strict(pictures["picture"], pictures["key"], return_dtype=pl.String)
    return texts.with_columns(pl.col("target", "members").list.eval(key))


def write(task: Task) -> tuple[str, ShardFacts]:
    """Write one tar and its index → (name of the shard, its facts)."""
    counts: list[tuple[int, ...]] = []
    suffixes = ["json", "jpg"] if task.thumbnails else ["json"]

    def samples() -> Iterator[Sample]:
        for key, path, built in _records(task):
            members = [codec.encode(built)]
            if task.thumbnails:
                members.append(thumbnail(Path(path), task.thumbnails))
            counts.append(index.count_texts(built))
            yield Sample(key, members, counts[-1])

    written = write_shard(task.path, suffixes, samples())
    totals = [sum(column) for column in zip(*counts, strict=True)] or [0] * len(index.COUNTED)
    texts = dict(zip(index.COUNTED, totals, strict=True))
    hashed = sha256_file(index.index_path(task.path))
    return task.path.stem, ShardFacts(
        task.dataset, task.split, written.samples, written.bytes, written.sha256, texts, index=hashed
    )


def _records(task: Task) -> Iterator[tuple[str, str, record.Record]]:
    """(key, file of the picture, record) in ascending order of key. ShardError for an unsound record."""
    regions, texts = records.rows_by(task.regions, "picture"), records.rows_by(task.texts, "picture")
    entities = records.rows_by(task.entities, "text")
    for picture in task.pictures.iter_rows(named=True):
        name = picture["picture"]
        built = records.build(picture, regions.get(name, []), texts.get(name, []), entities)
        if wrong := record.problems(built):
            where = f"{task.path.name}, picture {name}"
            raise ShardError(where, "; ".join(wrong), fix="run validate and spans again")
        yield picture["key"], picture["path"], built


def thumbnail(path: Path, side: int) -> bytes:
    """A picture as JPEG, its longest side at most `side` pixels."""
    import numpy as np
    import simplejpeg
    from PIL import Image

    from data_pipeline.pictures.picture_files import decode_rgb

    picture = Image.fromarray(decode_rgb(path))
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(picture), JPEG_QUALITY, colorspace="RGB"))


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
    settings: params.Params, folder: Path, vocabulary: list[str], facts: Mapping[str, ShardFacts]
) -> DataManifest:
    sections: dict[str, Any] = {name: msgspec.to_builtins(getattr(settings, name)) for name in PARAMS}
    return DataManifest(
        format=record.FORMAT_VERSION,
        schema=record.fingerprint(),
        tokenizer=_copy_tokenizer(settings, folder),
        answers=vocabulary,
        shards=dict(sorted(facts.items())),
        params=sections,
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
