"""Self-contained shards for tools that want one tar: records, features and negatives side by side.

A thumbnail comes along where the records have one. The trainer reads these like the columns they are made of.
"""

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from contract import manifest, patterns
from contract.errors import FuselineError, MismatchError, ShardError, unknown_name
from contract.files import atomic_path
from contract.manifest import DataManifest, ExportManifest, FeatureManifest, NegativesManifest, ShardFacts
from data_pipeline.command_line import add_workers
from data_pipeline.engine import run_threads
from data_pipeline.shards.exporting import Task, export_shard


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to export, and where to."""
    parser.add_argument(
        "--out", type=Path, required=True, help="folder to write; an earlier export is replaced"
    )
    parser.add_argument(
        "--shards", nargs="+", default=["data"], help="record shards, named as for fit (default: data)"
    )
    parser.add_argument("--columns", help="encoders, such as vit,esam (default: all there are)")
    add_workers(parser, "threads")


def run(args: argparse.Namespace) -> None:
    """Write the folder whole."""
    shards = [named.path for named in patterns.expand(args.shards)]
    data = _folder_of(shards)
    records, root = manifest.load(data, DataManifest), data.parent
    encoders = _encoders(root / "features", args.columns)
    beside = [root / "features" / name for name in encoders]
    beside += [root / "negatives"] if (root / "negatives").is_dir() else []
    described = _manifest(records, beside)
    _check_replaceable(args.out)
    with atomic_path(args.out) as folder:
        folder.mkdir()
        tasks = [_task(shard, beside, folder, records.shards) for shard in shards]
        facts = dict(run_threads(export_shard, tasks, args.workers, label="export", total=len(tasks)))
        shutil.copyfile(data / "tokenizer.json", folder / "tokenizer.json")
        manifest.save(folder, replace(described, shards=dict(sorted(facts.items()))))
    size = sum(shard.bytes for shard in facts.values())
    print(f"{args.out}: {len(facts)} self-contained shards, {size / 1e6:,.1f} MB")


def _task(shard: Path, beside: list[Path], folder: Path, known: Mapping[str, ShardFacts]) -> Task:
    if shard.stem not in known:
        raise ShardError(shard, "is not in the manifest beside it", fix="rebuild the folder (dvc repro)")
    sources = [shard, *(column / shard.name for column in beside)]
    return Task(sources, folder / shard.name, known[shard.stem])


def _manifest(records: DataManifest, beside: list[Path]) -> ExportManifest:
    """What the export holds; its shards come later."""
    features = [manifest.load(column, FeatureManifest) for column in beside if column.name != "negatives"]
    mined = [manifest.load(column, NegativesManifest) for column in beside if column.name == "negatives"]
    return ExportManifest(
        format=records.format,
        schema=records.schema,
        self_contained=True,
        tokenizer=records.tokenizer,
        answers=records.answers,
        features={column.encoder: replace(column, shards={}) for column in features},
        negatives=replace(mined[0], shards={}) if mined else None,
        shards={},
        missing=records.missing,
    )


def _folder_of(shards: list[Path]) -> Path:
    folders = {shard.parent for shard in shards}
    if len(folders) > 1:
        found = ", ".join(map(str, sorted(folders)))
        raise ShardError(
            "--shards", "lie in more than one folder", found=found, expected="one folder of records"
        )
    return folders.pop()


def _encoders(folder: Path, wanted: str | None) -> list[str]:
    """The feature columns to take, in the order asked for."""
    there = sorted(path.parent.name for path in folder.glob(f"[!.]*/{manifest.NAME}"))
    if wanted is None:
        return there
    names = list(dict.fromkeys(name.strip() for name in wanted.split(",") if name.strip()))
    for name in names:
        if name not in there:
            raise unknown_name("--columns", "feature column", name, there, ShardError)
    return names


def _check_replaceable(out: Path) -> None:
    """Only an earlier export may be replaced: whatever else is in a folder would be lost."""
    if not out.exists():
        return
    try:
        manifest.load(out, ExportManifest)
    except FuselineError:
        raise MismatchError(
            out, "is there and is no export", fix="name another folder, or remove it"
        ) from None
