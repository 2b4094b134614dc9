"""The numbers of the report, each from the files that the stages left."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from contract import codec, index, manifest
from contract.files import sha256_text
from contract.index import ABSENT
from contract.manifest import DataManifest, FeatureManifest, NegativesManifest
from contract.params import Params
from data_pipeline.shards import shard_reader
from data_pipeline.tables import CASCADES, TABLES, Finding

CATALOGUE = Path("images/catalogue.parquet")
STAGES = ("read", "scan", "validate", "spans")  # the stages of one dataset that account for rows
SECTIONS = ("datasets", "encoders", "report")  # of params.yaml: those that DVC runs the report again for
TRAIN = "train"
TOP_ANSWERS = 5
SAMPLED_SHARDS, SAMPLED_PICTURES = 16, 16  # read of each column for its statistics

Plain = dict[str, Any]


def accounts(datasets: Iterable[str]) -> Plain:
    """{dataset: {stage: {table: {read, kept, rejected}}}}, without tables that hold nothing."""
    return {
        name: {stage: _account(Path(stage, name, "counts.json")) for stage in STAGES} for name in datasets
    }


def _account(path: Path) -> Plain:
    counted = json.loads(path.read_text())
    return {table: counted[table] for table in TABLES if counted.get(table, {}).get("read")}


def findings(datasets: Iterable[str], encoders: Iterable[str]) -> pl.DataFrame:
    """All findings, with `stage` and `dataset` (of the features: the encoder), in one order."""
    parts = [(stage, name, Path(stage, name)) for name in datasets for stage in STAGES]
    parts += [("features", name, Path("features", name)) for name in encoders]
    parts += [("images", "", Path("images"))]
    found = [_findings(stage, name, folder / "findings.parquet") for stage, name, folder in parts]
    rows = pl.concat(part for part in found if part is not None)
    return rows.sort("dataset", "stage", "table", "reason", "id", maintain_order=True)


def _findings(stage: str, name: str, path: Path) -> pl.DataFrame | None:
    if not path.is_file():
        return None
    found = pl.read_parquet(path)
    if "dataset" not in found.columns:
        found = found.with_columns(dataset=pl.lit(name))
    return found.select("dataset", pl.lit(stage).alias("stage"), *Finding._fields)


def tally(found: pl.DataFrame) -> list[Plain]:
    """Findings per reason and outcome, with counts per dataset; cascades marked, the most frequent first."""
    columns = ["reason", "outcome", "table"]
    counted = found.group_by(*columns, "dataset").len().sort("dataset")
    rows: dict[tuple[str, ...], Plain] = {}
    for reason, outcome, table, dataset, count in counted.select(*columns, "dataset", "len").iter_rows():
        row = {"reason": reason, "outcome": outcome, "table": table, "cascade": reason in CASCADES}
        held = rows.setdefault((reason, outcome, table), {**row, "count": 0, "datasets": {}})
        held["datasets"][dataset] = count
        held["count"] += count
    order = {"reject": 0, "repair": 1, "flag": 2}
    return sorted(
        rows.values(), key=lambda row: (order[row["outcome"]], -row["count"], row["reason"], row["table"])
    )


def splits(catalogue: pl.DataFrame, texts: Mapping[str, pl.DataFrame]) -> list[Plain]:
    """Pictures, shards and texts per dataset and split, train first."""
    rows = []
    for name, table in texts.items():
        pictures = catalogue.filter(dataset=name)
        placed = table.join(pictures.select("picture", "split"), on="picture")
        for split in sorted(pictures["split"].unique(), key=lambda split: (split != TRAIN, split)):
            held = pictures.filter(split=split)
            counts = {"pictures": len(held), "texts": len(placed.filter(split=split))}
            rows.append({"dataset": name, "split": split, **counts, "groups": held["group"].n_unique()})
    return rows


def leaks(catalogue: pl.DataFrame) -> list[str]:
    """Groups of pictures that a train split and an evaluation split both hold: there must be none."""
    trained = pl.col("split") == TRAIN
    mixed = catalogue.group_by("group").agg(leak=trained.any() & ~trained.all()).filter("leak")
    return sorted(mixed["group"].to_list())


def balance(catalogue: pl.DataFrame, texts: Mapping[str, pl.DataFrame]) -> list[Plain]:
    """Per dataset and question type of the train split: its answers, the most frequent first."""
    rows = []
    train = catalogue.filter(split=TRAIN)
    for name, table in texts.items():
        asked = table.filter(pl.col("answer").is_not_null(), role="question")
        asked = asked.join(train.filter(dataset=name), on="picture", how="semi")
        for (kind,), part in sorted(asked.partition_by("type", as_dict=True).items()):
            counted = part.group_by("answer").len().sort(["len", "answer"], descending=[True, False])
            top = [[answer, count / len(part)] for answer, count in counted.head(TOP_ANSWERS).iter_rows()]
            row = {"dataset": name, "type": kind, "questions": len(part), "answers": len(counted)}
            rows.append({**row, "top": top})
    return rows


def coverage(name: str, texts: pl.DataFrame) -> list[Plain]:
    """Per role: texts, how many carry a span, how many are tied to a box; and how spans were found."""
    entities = pl.read_parquet(f"spans/{name}/entities.parquet")
    linked = pl.col("regions").list.len() > 0
    spans = entities.group_by("text").agg(
        spans=pl.len(), linked=linked.sum(), matched=(pl.col("source") == "matched").sum()
    )
    counts = pl.col("spans", "linked", "matched").fill_null(0)
    joined = texts.join(spans, on="text", how="left").with_columns(counts)
    rows = joined.group_by("role").agg(
        texts=pl.len(),
        with_spans=(pl.col("spans") > 0).sum(),
        with_boxes=((pl.col("linked") > 0) | (pl.col("about").list.len() > 0)).sum(),
        spans=pl.col("spans").sum(),
        linked=pl.col("linked").sum(),
        matched=pl.col("matched").sum(),
    )
    return [{"dataset": name, **row} for row in rows.sort("role").to_dicts()]


def box_sizes(datasets: Iterable[str]) -> Plain:
    """{dataset: {share of the picture: boxes smaller}}: what `boxes.min_area` would drop."""
    paths = {name: Path("validate", name, "box_sizes.json") for name in datasets}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.is_file()}


def features(name: str) -> Plain:
    """What an encoder's column is, and statistics over a sample of its pictures."""
    folder = Path("features", name)
    facts = manifest.load(folder, FeatureManifest)
    flags = {
        folder / f"{shard}.tar": index.load(folder / f"{shard}.tar").rows["flags"] for shard in facts.shards
    }
    kept = ("encoder", "architecture", "model", "grid", "cls", "width", "dtype", "transform", "size")
    return {
        **{field: getattr(facts, field) for field in kept},
        "tokens": facts.tokens,
        "weights": msgspec.to_builtins(facts.weights),
        "random": facts.weights.source == "random",
        "pictures": sum(shard.samples for shard in facts.shards.values()),
        "absent": sum(int(np.count_nonzero(row & ABSENT)) for row in flags.values()),
        **_statistics(name, [shard for shard, row in flags.items() if len(row)], facts.width),
    }


def _statistics(name: str, shards: list[Path], width: int) -> Plain:
    """Mean token norm, and channels that never change, over a few pictures of a few shards."""
    norms: list[float] = []
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    for shard in shards[:: max(1, len(shards) // SAMPLED_SHARDS)][:SAMPLED_SHARDS]:
        for number, (key, content, absent) in enumerate(shard_reader.members(shard, f"{name}.npy")):
            if number == SAMPLED_PICTURES:
                break
            if absent:
                continue
            tokens = codec.decode_array(content, f"{shard}/{key}").astype(np.float64)
            norms.append(float(np.linalg.norm(tokens, axis=1).mean()))
            low, high = np.minimum(low, tokens.min(0)), np.maximum(high, tokens.max(0))
    mean = round(sum(norms) / max(1, len(norms)), 4)
    return {"sampled": len(norms), "mean_norm": mean, "dead": int((low == high).sum())}


def disk(encoders: Iterable[str]) -> list[Plain]:
    """Files and bytes per column."""
    folders = ["data", *(f"features/{name}" for name in encoders), "negatives"]
    rows = []
    for folder in folders:
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        rows.append({"column": folder, "files": len(files), "bytes": size})
    return rows


def provenance(settings: Params) -> list[Plain]:
    """What everything was made from, as hashes."""
    data = manifest.load(Path("data"), DataManifest)
    used = {name: getattr(settings, name) for name in SECTIONS}
    digest = sha256_text(msgspec.json.encode(used, order="deterministic").decode())
    rows = [
        ("settings", f"{', '.join(SECTIONS)} of params.yaml", digest),
        ("record schema", "format 1", data.schema),
    ]
    rows.append(("tokenizer", data.tokenizer.name, data.tokenizer.sha256))
    for name in settings.encoders:
        facts = manifest.load(Path("features", name), FeatureManifest)
        rows.append((f"weights of {name}", facts.weights.source, facts.weights.sha256))
        rows.append((f"features/{name}", f"{len(facts.shards)} shards", _digest(facts)))
    mined = manifest.load(Path("negatives"), NegativesManifest)
    rows.append(("negatives", f"{mined.per_picture} per picture, by {mined.encoder}", _digest(mined)))
    rows.append(("data", f"{len(data.shards)} shards", _digest(data)))
    return [{"what": what, "which": which, "hash": value} for what, which, value in rows]


def _digest(facts: DataManifest | FeatureManifest | NegativesManifest) -> str:
    """One hash of all tars of a column."""
    return sha256_text("\n".join(f"{name} {shard.sha256}" for name, shard in sorted(facts.shards.items())))
