"""Pictures of all datasets → features/<encoder>/: a tar of frozen features per shard.

One task per shard, known by the hash of all that shapes it. Finished tars stay in .work/, or come back from
DVC's cache, and are linked: a killed run goes on where it was, a changed picture encodes one shard, and who
pulled a column encodes only what is new.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import polars as pl

from contract import manifest, params, record
from contract.errors import MismatchError
from contract.files import atomic_path, link, remove, sha256_file, write_atomic
from contract.index import index_path
from contract.manifest import FeatureManifest, ShardFacts
from data_pipeline.engine import run_tasks
from data_pipeline.features import dvc_cache, statistics
from data_pipeline.features.dvc_cache import Made
from data_pipeline.features.feature_shard import Done, Facts, Task, encode_shard, finished, identify
from data_pipeline.features.inputs import Picture
from data_pipeline.frames import findings_frame, reasons, rejected, write_findings
from data_pipeline.pictures import placement
from data_pipeline.tables import Account
from data_pipeline.validation import budgets

CATALOGUE = Path("images/catalogue.parquet")
WORK = Path(".work/features")

Place = tuple[str, str, str]  # dataset, split, shard
Tasks = Mapping[Place, Task]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which encoder."""
    parser.add_argument("encoder", help="a name under encoders: in params.yaml")


def run(args: argparse.Namespace) -> None:
    """Write features/<encoder>/ whole."""
    settings, name = params.load(args.params), args.encoder
    encoder = params.encoder(settings, name)
    catalogue = pl.read_parquet(CATALOGUE)
    preload = [f"data_pipeline.features.encoders.{encoder.architecture}"]
    (facts,) = run_tasks(identify, [encoder], settings.workers, label=f"features/{name}", preload=preload)
    check_weights(name, encoder, facts, catalogue)
    work = WORK / name
    work.mkdir(parents=True, exist_ok=True)
    tasks = shard_tasks(settings, name, facts, catalogue, work)
    out = Path("features", name)
    done = finish(tasks.values(), out, settings)
    publish(out, tasks, done, catalogue, settings.budgets.features)
    prune(work, set(done))


def check_weights(name: str, encoder: params.Encoder, facts: Facts, catalogue: pl.DataFrame) -> None:
    """Say what the weights are worth; refuse the demo's for other pictures (MismatchError)."""
    if facts.weights.source == "random":
        print(f"features {name}: RANDOM weights; the features carry little of the pictures", file=sys.stderr)
    if not facts.weights.demo:
        return
    print(f"features {name}: weights of the demo, made from generated pictures", file=sys.stderr)
    strangers = catalogue.filter(~pl.col("generated"))
    if len(strangers) and not encoder.allow_demo_weights:
        raise MismatchError(
            f"encoders.{name}.weights: {facts.weights.source}",
            "were made for the demo's generated pictures and know nothing else",
            found=f"{len(strangers):,} other pictures, such as {strangers['path'][0]}",
            fix="name real weights (`pretrained` or a file), or set `allow_demo_weights: true`",
        )


def shard_tasks(
    settings: params.Params, name: str, facts: Facts, catalogue: pl.DataFrame, work: Path
) -> dict[Place, Task]:
    """(dataset, split, shard) → its task, for every declared shard, those without pictures too."""
    columns = ["shard", "key", "path", "sha256"]
    rows = catalogue.sort("key").select(columns).iter_rows()
    pictures: dict[str, list[Picture]] = {}
    for shard, *picture in rows:
        pictures.setdefault(shard, []).append(Picture(*picture))
    encoder = params.encoder(settings, name)
    return {
        (dataset, split, shard): Task(name, encoder, facts, pictures.get(shard, []), str(work))
        for dataset, split, shard in declared_shards(settings.datasets)
    }


def declared_shards(datasets: Mapping[str, params.Dataset]) -> Iterable[Place]:
    """(dataset, split, name) of every shard that params.yaml opens."""
    for dataset, entry in datasets.items():
        for (_, split), (first, count) in placement.shard_ranges(entry.raw).items():
            for number in range(first, first + count):
                yield dataset, split, placement.shard_name(dataset, split, number)


def finish(tasks: Iterable[Task], out: Path, settings: params.Params) -> dict[str, Done]:
    """Task key → result; only what neither the work folder nor DVC's cache holds is encoded."""
    wanted = {task.key: task for task in tasks}
    done = {key: result for key, task in wanted.items() if (result := finished(task))}
    missing = {key: task for key, task in wanted.items() if key not in done}
    cached = dvc_cache.recover(missing, out, dvc_cache.objects(), settings.encode_unfetched)
    new = [task for key, task in missing.items() if key not in cached]
    results = run_tasks(encode_shard, new, settings.workers, label=str(out))
    encoded = {task.key: result for task, result in zip(new, results, strict=True)}
    kept = f"{len(cached)} out of DVC's cache, {len(done)} kept from earlier"
    print(f"{out}: {len(encoded)} shards encoded, {kept}")
    return done | cached | encoded


def publish(
    out: Path,
    tasks: Tasks,
    done: Mapping[str, Done],
    catalogue: pl.DataFrame,
    limits: Mapping[str, float],
) -> None:
    """Link the tars into the column's folder, with all that is known of them beside.

    limits: see validation.budgets.
    """
    shards = {}
    with atomic_path(out) as folder:
        folder.mkdir()
        for (dataset, split, shard), task in tasks.items():
            link_shard(task.tar, folder / f"{shard}.tar")
            written = done[task.key].written
            shards[shard] = ShardFacts(
                dataset,
                split,
                written.samples,
                written.bytes,
                written.sha256,
                task=task.key,
                index=sha256_file(index_path(task.tar)),
            )
        if tasks:
            describe(folder, tasks, done, shards)
        findings = findings_of(tasks, done, catalogue)
        write_findings(folder, findings)
        account = Account()
        account.add("images", len(catalogue), len(catalogue) - rejected(findings), rejected(findings))
        account.write(folder)
        budgets.check(limits, folder, "features", out.name)
    print(f"{out}: {account.summary()} in {len(shards)} shards {reasons(findings)}")


def link_shard(source: Path, target: Path) -> None:
    """A tar and its index under another name: DVC then links its cache to the same files."""
    link(source, target)
    link(index_path(source), index_path(target))


def describe(
    folder: Path,
    tasks: Tasks,
    done: Mapping[str, Done],
    shards: dict[str, ShardFacts],
) -> None:
    """manifest.json, statistics.json, and tasks.json for a later run that finds the column in DVC's cache."""
    task = next(iter(tasks.values()))
    manifest.save(folder, column_manifest(task, shards))
    figures = statistics.summary((done[task.key].statistics for task in tasks.values()), task.facts.width)
    write_atomic(folder / "statistics.json", msgspec.json.format(msgspec.json.encode(figures), indent=1))
    made = {task.key: Made(shard, done[task.key]) for (_, _, shard), task in tasks.items()}
    write_atomic(folder / dvc_cache.TASKS, msgspec.json.encode(made))


def column_manifest(task: Task, shards: dict[str, ShardFacts]) -> FeatureManifest:
    """What a reader of the column must know."""
    settings, facts = task.settings, task.facts
    return FeatureManifest(
        format=record.FORMAT_VERSION,
        encoder=task.column,
        architecture=settings.architecture,
        model=settings.model,
        weights=facts.weights,
        config=facts.config,
        transform=settings.transform,
        size=settings.size,
        grid=settings.grid,
        cls=facts.cls,
        width=facts.width,
        output=settings.output,
        dtype=settings.dtype,
        batch=settings.batch,
        threads=settings.threads,
        version=facts.version,
        settings=msgspec.to_builtins(settings),
        shards=dict(sorted(shards.items())),
    )


def findings_of(tasks: Tasks, done: Mapping[str, Done], catalogue: pl.DataFrame) -> pl.DataFrame:
    """A reject per picture without features, with its row of the catalogue."""
    absent = [
        (shard, picture.key, picture.reason, picture.detail)
        for (_, _, shard), task in tasks.items()
        for picture in done[task.key].absent
    ]
    schema = dict.fromkeys(["shard", "key", "reason", "detail"], pl.String)
    found = pl.DataFrame(absent, schema=schema, orient="row").join(catalogue, on=["shard", "key"])
    return findings_frame(
        [
            found.select(
                table=pl.lit("images"),
                id="picture",
                outcome=pl.lit("reject"),
                reason="reason",
                detail="detail",
                record=pl.struct(
                    "dataset", "picture", "path", "sha256", "width", "height"
                ).struct.json_encode(),
                file="path",
                position=pl.lit(""),
            )
        ]
    )


def prune(work: Path, keys: set[str]) -> None:
    """Keep this run's tars only."""
    for path in work.iterdir():
        if path.name.split(".")[0] not in keys:
            remove(path)
