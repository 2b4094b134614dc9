"""A world of six pictures whose tables are written by hand: what stages shards … report start from."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import simplejpeg
from numpy.typing import NDArray

from contract import codec, column, manifest
from contract.column import Dtype
from contract.manifest import FeatureManifest, ShardFacts, WeightsFacts
from contract.quantise import quantise
from data_pipeline.shards.shard_writer import Sample, write_shard

PARAMS = """\
seed: 7
workers: 1
datasets:
  gqa:
    format: gqa
    folder: raw/gqa
    raw:
    - shards: {train: 2, val: 1}
  cirr:
    format: cirr
    folder: raw/cirr
    raw:
    - shards: {train: 1}
tokenizer: {name: words.json}
encoders:
  vit: {architecture: vit, model: none, weights: random, size: 32, grid: 2}
negatives: {encoder: vit, pictures: {num_negatives: 2}}
shards: {thumbnails: THUMBNAILS}
"""
ODD = "an odd id/é"  # not a key
ODD_KEY = hashlib.sha256(ODD.encode()).hexdigest()[:32]
PLACES = [  # dataset, picture, key, split, shard, group
    ("gqa", "1", "1", "train", "gqa-000", "vg:1"),
    ("gqa", "10", "10", "train", "gqa-000", "vg:10"),
    ("gqa", "2", "2", "train", "gqa-000", "vg:1"),
    ("gqa", "3", "3", "val", "gqa-val-000", "vg:3"),
    ("cirr", "a-img0", "a-img0", "train", "cirr-000", "cirr:a"),
    ("cirr", ODD, ODD_KEY, "train", "cirr-000", "cirr:odd"),
]
WIDTH, HEIGHT = 48, 32
TEXT = {
    "text": pl.String,
    "picture": pl.String,
    "role": pl.String,
    "content": pl.String,
    "answer": pl.String,
    "type": pl.String,
    "target": pl.List(pl.String),
    "members": pl.List(pl.String),
    "about": pl.List(pl.String),
    "negatives": pl.List(pl.Struct({"text": pl.String, "kind": pl.String, "tokens": pl.List(pl.Int32)})),
    "tokens": pl.List(pl.Int32),
    "split": pl.String,
    "source_file": pl.String,
}
IMAGE = dict.fromkeys(("picture", "file", "split", "source_file"), pl.String)
REGION = {
    "picture": pl.String,
    "region": pl.String,
    "name": pl.String,
    "attributes": pl.List(pl.String),
    "crowd": pl.Boolean,
    **dict.fromkeys(("x0", "y0", "x1", "y1"), pl.Float64),
}
ENTITY = {
    "text": pl.String,
    "start": pl.Int32,
    "end": pl.Int32,
    "token_start": pl.Int32,
    "token_end": pl.Int32,
    "regions": pl.List(pl.String),
    "source": pl.String,
}
FINDING = dict.fromkeys(
    ("table", "id", "outcome", "reason", "detail", "record", "file", "position"), pl.String
)


def text(name: str, picture: str, role: str, content: str, **more: Any) -> dict[str, Any]:
    """A row of spans/<dataset>/texts.parquet: a token per word."""
    lists: dict[str, list[Any]] = {"target": [], "members": [], "about": [], "negatives": []}
    tokens = [len(word) for word in content.split()]
    row = {"text": name, "picture": picture, "role": role, "content": content, "answer": None, "type": ""}
    place = {"split": "", "source_file": "texts.json"}
    return {**row, **lists, "tokens": tokens, **place, **more}


def region(
    picture: str, name: str, label: str, box: tuple[float, ...], crowd: bool = False
) -> dict[str, Any]:
    """A row of validate/<dataset>/regions.parquet."""
    edges = dict(zip(("x0", "y0", "x1", "y1"), box, strict=True))
    return {"picture": picture, "region": name, "name": label, "attributes": [], "crowd": crowd, **edges}


def entity(name: str, chars: tuple[int, int], tokens: tuple[int, int], regions: list[str]) -> dict[str, Any]:
    """A row of spans/<dataset>/entities.parquet."""
    spans = {"start": chars[0], "end": chars[1], "token_start": tokens[0], "token_end": tokens[1]}
    return {"text": name, **spans, "regions": regions, "source": "annotated"}


GQA_TEXTS = [
    text("02", "1", "question", "What color is the cube?", answer="red", type="query/attr"),
    text("02.full", "1", "statement", "The cube is red."),
    text("01", "1", "question", "Is there a ball?", answer="yes", type="verify/obj"),
    text("03", "2", "question", "What is it?", answer="red", type="query/cat"),
    text("04", "3", "question", "Unseen?", answer="only in val", type="query/cat"),
]
GQA_REGIONS = [
    region("1", "10", "ball", (0.5, 0.5, 0.9, 0.9)),
    region("1", "9", "cube", (0.1, 0.1, 0.4, 0.1 + 1e-9)),
    region("2", "4", "crowd of balls", (0.0, 0.0, 1.0, 1.0), crowd=True),
]
GQA_ENTITIES = [entity("02", (14, 22), (3, 5), ["9"]), entity("02.full", (0, 8), (0, 2), ["9", "10"])]
CIRR_TEXTS = [text("5", "a-img0", "edit", "make it blue", target=[ODD], members=[ODD])]


def build(folder: Path, thumbnails: int = 0) -> None:
    """Write params.yaml, pictures and the tables of every stage before `shards`, and a feature column."""
    (folder / "params.yaml").write_text(PARAMS.replace("THUMBNAILS", str(thumbnails)))
    catalogue(folder)
    table(folder / "spans/gqa/texts.parquet", GQA_TEXTS, TEXT)
    table(folder / "spans/gqa/entities.parquet", GQA_ENTITIES, ENTITY)
    table(folder / "validate/gqa/regions.parquet", GQA_REGIONS, REGION)
    table(folder / "spans/cirr/texts.parquet", CIRR_TEXTS, TEXT)
    table(folder / "spans/cirr/entities.parquet", [], ENTITY)
    table(folder / "validate/cirr/regions.parquet", [], REGION)
    for name in ("gqa", "cirr"):
        write_json(folder / f"spans/{name}/tokenizer.json", {})
    declared(folder)
    features(folder, {name: vector(number) for number, (_, _, name, *_) in enumerate(PLACES)})


def declared(folder: Path) -> None:
    """What stage read gave: the rows that are kept, so that nothing is missing."""
    for dataset, texts in (("gqa", GQA_TEXTS), ("cirr", CIRR_TEXTS)):
        images = [
            {"picture": place[1], "file": f"{number}.jpg", "split": place[3], "source_file": "images.json"}
            for number, place in enumerate(PLACES)
            if place[0] == dataset
        ]
        table(folder / f"read/{dataset}/images.parquet", images, IMAGE)
        table(folder / f"read/{dataset}/texts.parquet", texts, TEXT)
        table(folder / f"read/{dataset}/findings.parquet", [], FINDING)
    table(folder / "images/findings.parquet", [], {"dataset": pl.String, **FINDING})


def reportable(folder: Path) -> None:
    """What stage report reads besides: accounts, findings."""
    for dataset in ("gqa", "cirr"):
        placed = [row for row in enumerate(PLACES) if row[1][0] == dataset]
        for stage, tables in ACCOUNTS[dataset].items():
            write_json(folder / stage / dataset / "counts.json", dict(map(account, tables)))
        table(folder / f"scan/{dataset}/pictures.parquet", [{"bytes": 1000}] * len(placed), None)
        write_json(folder / f"spans/{dataset}/audit.json", AUDIT)
        write_json(folder / f"read/{dataset}/files.json", {"a.json": {"bytes": 12, "sha256": "ab" * 32}})
        for number, _ in placed:  # the drops lie where the datasets' folders are
            target = folder / f"raw/{dataset}/{number}.jpg"
            target.parent.mkdir(exist_ok=True)
            target.write_bytes((folder / f"raw/{number}.jpg").read_bytes())
    shared = {kind: {"pairs": 2, "pictures": 1} for kind in ("sha256", "perceptual_hash")}
    nothing = dict.fromkeys(shared, {"pairs": 0, "pictures": 0})
    write_json(folder / "images/leakage.json", {"declared": shared, "kept": nothing})
    write_json(folder / "images/counts.json", {"images": {"read": 6, "kept": 6, "rejected": 0}})
    table(folder / "scan/gqa/findings.parquet", FINDINGS[-1:], FINDING)
    table(folder / "validate/gqa/findings.parquet", FINDINGS[:-1], FINDING)
    write_json(folder / "validate/gqa/box_sizes.json", {"0": 0, "0.01": 1, "0.05": 2})
    write_json(folder / "validate/cirr/box_sizes.json", {"0": 0, "0.01": 0, "0.05": 0})


def account(counted: tuple[str, int, int]) -> tuple[str, dict[str, int]]:
    """(table, rows read, rows kept) → an entry of counts.json."""
    table, read, kept = counted
    return table, {"read": read, "kept": kept, "rejected": read - kept}


AUDIT = {"texts": 5, "text_truncated": 0, "text_unknown": 1, "spans": 2, "span_case_folded": 2}
# dataset → stage → (table, read, kept); FINDINGS has a reject for each row that is gone
ACCOUNTS = {
    "gqa": {
        "read": [("images", 5, 5), ("texts", 7, 7), ("regions", 4, 4), ("entities", 3, 3)],
        "scan": [("images", 5, 4)],
        "validate": [("images", 5, 4), ("texts", 7, 5), ("regions", 4, 3), ("entities", 3, 2)],
        "spans": [("texts", 5, 5), ("entities", 2, 2)],
    },
    "cirr": {
        "read": [("images", 2, 2), ("texts", 1, 1)],
        "scan": [("images", 2, 2)],
        "validate": [("images", 2, 2), ("texts", 1, 1)],
        "spans": [("texts", 1, 1), ("entities", 0, 0)],
    },
}


def write_json(path: Path, content: object) -> None:
    """A JSON file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def finding(kind: str, name: str, outcome: str, reason: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a findings table."""
    row = {"table": kind, "id": name, "outcome": outcome, "reason": reason, "detail": ""}
    return {**row, "record": json.dumps(record), "file": "x.json", "position": "/0"}


FAR = {"picture": "1", "region": "7", "x": 5.0, "y": -904.0, "w": 9.0, "h": 9.0, "name": "kite"}
FINDINGS = [
    finding("regions", "1/7", "reject", "box_outside", FAR),
    finding("texts", "09", "reject", "blank_text", {"picture": "10", "content": "<script>alert(1)</script>"}),
    finding("texts", "08", "reject", "picture_rejected", {"picture": "99"}),
    finding("entities", "02/3:9", "reject", "span_out_of_range", {"text": "02", "start": 14, "end": 22}),
    finding("images", "77", "reject", "picture_missing", {"picture": "77"}),
]


def catalogue(folder: Path) -> None:
    """images/catalogue.parquet and a picture file for each row."""
    rows = []
    for number, (dataset, picture, key, split, shard, group) in enumerate(PLACES):
        path = folder / "raw" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        pixels = np.full((HEIGHT, WIDTH, 3), 40 * number, np.uint8)
        path.write_bytes(simplejpeg.encode_jpeg(pixels, colorspace="RGB"))
        row = {"dataset": dataset, "picture": picture, "key": key, "path": str(path.relative_to(folder))}
        size = {"width": WIDTH, "height": HEIGHT, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        rows.append({**row, "split": split, "shard": shard, **size, "group": group, "generated": True})
    table(folder / "images/catalogue.parquet", rows, None)


def vector(number: int) -> NDArray[np.float16]:
    """[5, 4] tokens whose CLS points a little further round with each picture."""
    tokens = np.ones((5, 4), np.float16)
    tokens[0] = [np.cos(number**2 / 8), np.sin(number**2 / 8), 0, 0]
    return tokens


def features(
    folder: Path, tokens: Mapping[str, NDArray[np.float16]], cls: bool = True, dtype: Dtype = "float16"
) -> None:
    """features/vit of these keys; a key with no tokens at all is flagged absent."""
    out = folder / "features/vit"
    stored = quantise if dtype == "int8" else lambda array: (array,)
    names = {"gqa-000": "train", "gqa-001": "train", "gqa-val-000": "val", "cirr-000": "train"}
    facts = {}
    for shard, split in names.items():
        keys = sorted(key for _, _, key, _, place, _ in PLACES if place == shard)
        samples = [
            Sample(
                key, [codec.encode_array(array) for array in stored(tokens[key])], absent=not len(tokens[key])
            )
            for key in keys
        ]
        out.mkdir(parents=True, exist_ok=True)
        written = write_shard(out / f"{shard}.tar", column.suffixes("vit", dtype), samples)
        facts[shard] = ShardFacts(
            shard[:-4].split("-")[0], split, written.samples, written.bytes, written.sha256
        )
    manifest.save(out, _feature_manifest(facts, cls, dtype))
    write_json(out / "statistics.json", STATISTICS)


STATISTICS = {
    "pictures": 6,
    "tokens": 30,
    "norm": {"mean": 1.5, "min": 1.0, "max": 2.0},
    "dead": [2],
    "duplicates": 0,
    "error": {
        "int8": {"token": {"mean": 0.01, "max": 0.02}, "channel": {"median": 0.01, "max": 0.5, "worst": 3}}
    },
}


def _feature_manifest(facts: dict[str, ShardFacts], cls: bool, dtype: Dtype) -> FeatureManifest:
    names = {
        "encoder": "vit",
        "architecture": "vit",
        "model": "none",
        "transform": "squash",
        "dtype": dtype,
    }
    numbers = {"format": 1, "size": 32, "grid": 2, "width": 4, "batch": 1, "threads": 1, "version": 1}
    weights = WeightsFacts("random", "0" * 64)
    return FeatureManifest(**names, **numbers, cls=cls, weights=weights, settings={}, shards=facts)  # type: ignore[arg-type]


def table(path: Path, rows: list[dict[str, Any]], schema: Mapping[str, Any] | None) -> None:
    """A Parquet file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows, schema).write_parquet(path)
