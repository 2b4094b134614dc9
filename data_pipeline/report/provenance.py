"""What everything was made from, as hashes."""

import json
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from contract import manifest
from contract.files import sha256_text
from contract.manifest import DataManifest, FeatureManifest, NegativesManifest
from contract.params import Params

# Of params.yaml: those that DVC runs the report again for.
SECTIONS = (
    "boxes",
    "budgets",
    "datasets",
    "encoders",
    "negatives",
    "report",
    "seed",
    "shards",
    "spans",
    "tokenizer",
)


class Source(Struct):
    """One thing that the shards were made from, or are. hash: sha256, or the schema's fingerprint."""

    what: str
    which: str
    hash: str


def sources(settings: Params) -> list[Source]:
    """Settings and schema, tokenizer, weights, then the columns themselves."""
    data = manifest.load(Path("data"), DataManifest)
    columns = {name: manifest.load(Path("features", name), FeatureManifest) for name in settings.encoders}
    mined = manifest.load(Path("negatives"), NegativesManifest)
    texts = [Source("weights of negatives.text", mined.text_encoder, mined.text_weights)]
    return [
        Source("settings", f"{', '.join(SECTIONS)} of params.yaml", settings_hash(settings)),
        Source("record schema", f"format {data.format}", data.schema),
        Source("tokenizer", data.tokenizer.name, data.tokenizer.sha256),
        *(Source(f"weights of {name}", f.weights.source, f.weights.sha256) for name, f in columns.items()),
        *(texts if mined.text_weights else []),
        *(Source(f"features/{name}", f"{len(f.shards)} shards", _digest(f)) for name, f in columns.items()),
        Source("negatives", f"{mined.per_picture} per picture, by {mined.encoder}", _digest(mined)),
        Source("data", f"{len(data.shards)} shards", _digest(data)),
    ]


def settings_hash(settings: Params) -> str:
    """One hash of the settings that shape the data."""
    used = {name: getattr(settings, name) for name in SECTIONS}
    return sha256_text(msgspec.json.encode(used, order="deterministic").decode())


class RawFile(Struct):
    """A file of annotations as stage read found it."""

    dataset: str
    path: str
    bytes: int
    sha256: str


def raw_files(datasets: Iterable[str]) -> list[RawFile]:
    """In the order in which they were read."""
    read = {name: json.loads(Path("read", name, "files.json").read_text()) for name in datasets}
    return [RawFile(name, path, **facts) for name, files in read.items() for path, facts in files.items()]


def _digest(facts: DataManifest | FeatureManifest | NegativesManifest) -> str:
    """One hash of all tars of a column."""
    return sha256_text("\n".join(f"{name} {shard.sha256}" for name, shard in sorted(facts.shards.items())))
