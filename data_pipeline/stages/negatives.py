"""Features → `negatives/`: for each picture the most similar others of its dataset and split."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from msgspec import Struct
from numpy.typing import NDArray

from contract import codec, manifest, params, record
from contract.errors import MismatchError
from contract.files import atomic_path, sha256_file
from contract.index import index_path
from contract.manifest import FeatureManifest, NegativesManifest, ShardFacts
from contract.record import Near, Negatives
from data_pipeline.negatives import neighbours
from data_pipeline.shards import shard_reader
from data_pipeline.shards.shard_writer import Sample, write_shard

OUT = Path("negatives")
CATALOGUE = Path("images/catalogue.parquet")
SUFFIX = "neg.json"
DECIMALS = 4


Mined = Iterator[tuple[str, str, Negatives]]  # shard, key, negatives


class Pooled(Struct):
    """One picture of a feature tar as one vector [D]."""

    key: str
    shard: str
    absent: bool
    vector: NDArray[np.float32]


class Column(Struct):
    """The pictures of one dataset and split, ascending by key. vectors: [N,D], of length 1 where present."""

    keys: list[str]
    shards: list[str]
    groups: NDArray[np.int64]
    present: NDArray[np.bool_]
    vectors: NDArray[np.float32]


def arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(args: argparse.Namespace) -> None:
    """Write negatives/ whole."""
    settings = params.load(args.params).negatives
    source = Path("features") / settings.encoder
    features = manifest.load(source, FeatureManifest)
    catalogue = pl.read_parquet(CATALOGUE, columns=["dataset", "split", "shard", "key", "group"])
    facts: dict[str, ShardFacts] = {}
    with atomic_path(OUT) as folder:
        folder.mkdir()
        for dataset, split in sorted({(shard.dataset, shard.split) for shard in features.shards.values()}):
            pictures = catalogue.filter(dataset=dataset, split=split)
            column = read_column(source, features, dataset, split, pictures)
            facts |= _write(folder, features, dataset, split, mine(column, settings.per_picture))
        manifest.save(folder, _manifest(settings, features, facts))
    print(f"{OUT}: {sum(shard.samples for shard in facts.values())} pictures in {len(facts)} shards")


def read_column(
    source: Path, features: FeatureManifest, dataset: str, split: str, pictures: pl.DataFrame
) -> Column:
    """One vector per picture of a dataset and split: its CLS token, or the mean of its tokens.

    pictures: their `key` and `group`. MismatchError when the features are not of these pictures.
    """
    found = sorted(_pooled_pictures(source, features, dataset, split), key=lambda picture: picture.key)
    groups = dict(pictures.select("key", "group").iter_rows())
    if {picture.key for picture in found} != set(groups):
        raise _strangers(source, dataset, split, {picture.key for picture in found}, set(groups))
    numbers = {group: number for number, group in enumerate(sorted(set(groups.values())))}
    vectors = np.stack([picture.vector for picture in found]) if found else np.zeros((0, features.width))
    return Column(
        keys=[picture.key for picture in found],
        shards=[picture.shard for picture in found],
        groups=np.array([numbers[groups[picture.key]] for picture in found], np.int64),
        present=np.array([not picture.absent for picture in found], np.bool_),
        vectors=neighbours.normalised(vectors.astype(np.float32)),
    )


def _pooled_pictures(source: Path, features: FeatureManifest, dataset: str, split: str) -> Iterator[Pooled]:
    nothing = np.zeros(features.width, np.float32)
    for shard in _shards(features, dataset, split):
        path = source / f"{shard}.tar"
        for key, content, absent in shard_reader.members(path, f"{features.encoder}.npy"):
            tokens = codec.decode_array(content, f"{path}/{key}")
            yield Pooled(key, shard, absent, nothing if absent else pooled(tokens, features.cls))


def pooled(tokens_ND: NDArray[np.float16], cls: bool) -> NDArray[np.float32]:
    """[D] float32: the CLS token where the column has one, else the mean token."""
    vector_D = tokens_ND[0] if cls else tokens_ND.mean(0, dtype=np.float64)
    return np.asarray(vector_D, np.float32)


def mine(column: Column, wanted: int) -> Mined:
    """(shard, key, negatives) of each picture; a picture without features has none and is nobody's."""
    rows = np.flatnonzero(column.present)
    found = neighbours.nearest(column.vectors[rows], column.groups[rows], wanted)
    for shard, key, present in zip(column.shards, column.keys, column.present, strict=True):
        if not present:
            yield shard, key, Negatives(pictures=Near())
            continue
        best, cosines = next(found)
        yield shard, key, Negatives(pictures=_near([column.keys[row] for row in rows[best]], cosines))


def _near(names: list[str], cosines: NDArray[np.float64]) -> Near:
    scores = [round(score, DECIMALS) + 0.0 for score in cosines.tolist()]  # + 0.0: no "-0.0" in the file
    return Near(key=names, text=[""] * len(names), score=scores)


def _write(
    folder: Path, features: FeatureManifest, dataset: str, split: str, mined: Mined
) -> dict[str, ShardFacts]:
    """Write the tars of a dataset and split, one per tar of the features, empty ones too."""
    samples: dict[str, list[Sample]] = {shard: [] for shard in _shards(features, dataset, split)}
    for shard, key, negatives in mined:
        samples[shard].append(Sample(key, [codec.encode(negatives)]))
    facts = {}
    for shard, content in samples.items():
        path = folder / f"{shard}.tar"
        written = write_shard(path, [SUFFIX], content)
        hashed = sha256_file(index_path(path))
        facts[shard] = ShardFacts(
            dataset, split, written.samples, written.bytes, written.sha256, index=hashed
        )
    return facts


def _shards(features: FeatureManifest, dataset: str, split: str) -> list[str]:
    return sorted(
        name for name, shard in features.shards.items() if (shard.dataset, shard.split) == (dataset, split)
    )


def _strangers(source: Path, dataset: str, split: str, found: set[str], expected: set[str]) -> MismatchError:
    odd = sorted(found ^ expected)
    return MismatchError(
        source,
        f"is not of the pictures that {CATALOGUE} lists for {dataset}, {split}: {len(odd)} differ",
        found=f"{len(found)} pictures; first difference {odd[0]}",
        expected=f"{len(expected)} pictures",
        fix=f"run: python -m data_pipeline features {source.name}",
    )


def _manifest(
    settings: params.NegativesParams, features: FeatureManifest, facts: dict[str, ShardFacts]
) -> NegativesManifest:
    return NegativesManifest(
        format=record.FORMAT_VERSION,
        schema=record.fingerprint(),
        encoder=settings.encoder,
        weights=features.weights.sha256,
        per_picture=settings.per_picture,
        shards=dict(sorted(facts.items())),
    )
