"""Features and texts → `negatives/`: neighbours of pictures and texts, and texts that are verified false.

Neighbours are of the same dataset and split. statistics.json beside the tars says what was mined, against
chance, and what was left out and why; the manifest certifies each search.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import msgspec
import polars as pl
from msgspec import Struct

from contract import manifest, params, record
from contract.files import atomic_path
from contract.manifest import Certificate, FeatureManifest, NegativesManifest, ShardFacts
from data_pipeline.engine import run_tasks
from data_pipeline.negatives import margins, mining, text_tables, text_vectors
from data_pipeline.negatives.mining import Place
from data_pipeline.negatives.picture_column import read_column, shards_of
from data_pipeline.negatives.shard_task import write
from data_pipeline.negatives.statistics import EDGES, Example, Part, Statistics
from data_pipeline.negatives.text_tables import Tables
from data_pipeline.negatives.text_vectors import TextEncoder

OUT = Path("negatives")
CATALOGUE = Path("images/catalogue.parquet")


class Mined(Struct):
    """What became of one dataset and split."""

    shards: dict[str, ShardFacts]
    searches: dict[str, Certificate]
    part: Part
    examples: list[Example]


def arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(args: argparse.Namespace) -> None:
    """Write negatives/ whole."""
    settings = params.load(args.params)
    features = manifest.load(Path("features", settings.negatives.encoder), FeatureManifest)
    encoder = text_vectors.identify(settings.negatives.text)
    margins.check(settings.negatives.text, encoder, features)
    with atomic_path(OUT) as folder:
        folder.mkdir()
        mined = list(_mine_all(settings, features, encoder, folder))
        manifest.save(folder, _manifest(settings.negatives, features, encoder, mined))
        examples = [example for one in mined for example in one.examples]
        statistics = Statistics(EDGES, [one.part for one in mined], examples)
        content = msgspec.json.format(msgspec.json.encode(statistics), indent=1)
        (folder / "statistics.json").write_bytes(content + b"\n")
    print(f"{OUT}: {summary(statistics)}")


def _mine_all(
    settings: params.Params, features: FeatureManifest, encoder: TextEncoder, folder: Path
) -> Iterator[Mined]:
    columns = ["dataset", "split", "shard", "picture", "key", "group"]
    catalogue = pl.read_parquet(CATALOGUE, columns=columns)
    places = sorted({(shard.dataset, shard.split) for shard in features.shards.values()})
    for dataset in sorted({dataset for dataset, _ in places}):
        pictures = catalogue.filter(dataset=dataset)
        tables = text_tables.load(dataset, pictures, params.dataset(settings, dataset).exhaustive)
        for split in (split for name, split in places if name == dataset):
            place = Place(dataset, split, shards_of(features, dataset, split), folder, settings.seed)
            yield _mine(place, features, encoder, tables, pictures.filter(split=split), settings)


def _mine(
    place: Place,
    features: FeatureManifest,
    encoder: TextEncoder,
    tables: Tables,
    pictures: pl.DataFrame,
    settings: params.Params,
) -> Mined:
    """Mine one dataset and split and write its tars, one per tar of the features, empty ones too."""
    source = Path("features", features.encoder)
    column = read_column(source, features, place.dataset, place.split, pictures)
    near = mining.mine_pictures(place, column, settings.negatives)
    texts = mining.mine_texts(place, column, tables, encoder, settings.negatives, settings.workers)
    tasks, filters = mining.tasks(place, column, tables, near, texts, settings.negatives)
    done = list(run_tasks(write, tasks, settings.workers, label=f"negatives {place.name}"))
    return Mined(
        {one.shard: one.facts for one in done},
        {f"{place.name}/pictures": near.certificate, **texts.certificates},
        mining.part(place, near, texts, filters, done),
        [
            *mining.picture_examples(place, near),
            *mining.edit_examples(place, texts, tables),
            *(example for one in done for example in one.examples),
        ],
    )


def summary(statistics: Statistics) -> str:
    """One line for the console."""
    texts = [part.texts for part in statistics.parts]
    swaps = sum(ends.get("kept", 0) for one in texts for ends in one.swaps.values())
    return (
        f"{sum(part.pictures.pictures for part in statistics.parts):,} pictures, "
        f"{sum(one.near for one in texts):,} neighbours of {sum(one.texts for one in texts):,} texts, "
        f"{swaps:,} verified swaps"
    )


def _manifest(
    settings: params.NegativesParams, features: FeatureManifest, encoder: TextEncoder, mined: list[Mined]
) -> NegativesManifest:
    facts = {name: shard for one in mined for name, shard in one.shards.items()}
    return NegativesManifest(
        format=record.FORMAT_VERSION,
        schema=record.fingerprint(),
        encoder=settings.encoder,
        weights=features.weights.sha256,
        per_picture=settings.pictures.num_negatives,
        shards=dict(sorted(facts.items())),
        searches={name: found for one in mined for name, found in one.searches.items()},
        text_encoder=encoder.name,
        text_weights=encoder.weights,
    )
