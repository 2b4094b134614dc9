"""The clean tables of a dataset as mining takes them: keys for pictures, boxes for links."""

from pathlib import Path

import polars as pl
from msgspec import Struct

from data_pipeline.frames import read_table
from data_pipeline.negatives.families import is_value
from data_pipeline.negatives.swaps import Words
from data_pipeline.negatives.wording import singular

EDGES = ["x0", "y0", "x1", "y1"]
BOX = pl.concat_list(EDGES)
TEXT = ["text", "picture", "role", "content", "answer", "tokens", "target", "members", "about", "negatives"]
REGION = ["picture", "region", "name", "attributes", "crowd", *EDGES]


class Tables(Struct):
    """texts: with key, group, split and shard; of a phrase also `marks`, the named boxes it is linked to, and
    `around`, one box round all that it is about. regions: with key and shard. words: of the regions.
    """

    texts: pl.DataFrame
    regions: pl.DataFrame
    words: Words
    keys: dict[str, str]  # picture → key
    exhaustive: frozenset[str]  # names of which every thing has a box, but in pictures that lost boxes
    incomplete: frozenset[str]  # their keys


def load(dataset: str, pictures: pl.DataFrame, exhaustive: bool) -> Tables:
    """pictures: the dataset's rows of the catalogue: picture, key, split, shard, group.

    exhaustive: whether its boxes show every thing of the names that they use.
    """
    texts = read_table(Path("spans", dataset), "texts").select(TEXT)
    regions = read_table(Path("validate", dataset), "regions").select(REGION)
    entities = read_table(Path("spans", dataset), "entities").select("text", "regions")
    phrases = texts.filter(role="phrase")
    about = phrases.select("text", "picture", region="about").explode("region").drop_nulls()
    spans = phrases.select("text", "picture").join(entities, on="text").explode("regions").drop_nulls()
    linked = pl.concat([about, spans.rename({"regions": "region"})]).unique(maintain_order=True)
    boxed = texts.join(marks(linked, regions), on="text", how="left", maintain_order="left").join(
        around(about, regions), on="text", how="left", maintain_order="left"
    )
    place = pictures.select("picture", "key", "group", "split", "shard")
    lost = lost_boxes(dataset) if exhaustive else set()
    keys, said = dict(pictures.select("picture", "key").iter_rows()), words(regions)
    return Tables(
        texts=boxed.join(place, on="picture", maintain_order="left"),
        regions=regions.join(place.select("picture", "key", "shard"), on="picture", maintain_order="left"),
        words=said,
        keys=keys,
        exhaustive=frozenset(said.names if exhaustive else ()),
        incomplete=frozenset(keys[picture] for picture in lost if picture in keys),
    )


def lost_boxes(dataset: str) -> set[str]:
    """Pictures with a region that a stage rejected: what it showed is there, without a box."""
    found = pl.concat(
        pl.read_parquet(Path(stage, dataset, "findings.parquet"), columns=["table", "id", "outcome"])
        for stage in ("read", "validate")
    )
    return set(found.filter(table="regions", outcome="reject")["id"].str.split("/").list.first())


def marks(linked: pl.DataFrame, regions: pl.DataFrame) -> pl.DataFrame:
    """text, marks: names and boxes of the linked regions (text, picture, region) that have a name."""
    named = linked.join(regions.filter(pl.col("name") != ""), on=["picture", "region"], maintain_order="left")
    return named.group_by("text", maintain_order=True).agg(marks=pl.struct("name", box=BOX))


def around(linked: pl.DataFrame, regions: pl.DataFrame) -> pl.DataFrame:
    """text, around: the box round all linked regions."""
    joined = linked.join(regions, on=["picture", "region"], maintain_order="left")
    edges = joined.group_by("text", maintain_order=True).agg(
        pl.col("x0", "y0").min(), pl.col("x1", "y1").max()
    )
    return edges.select("text", around=BOX)


def words(regions: pl.DataFrame) -> Words:
    """Names in lower case and singular, and the values of attributes that belong to a family."""
    names = {singular(name.lower()) for name in regions["name"].unique().to_list() if name}
    values = regions["attributes"].explode().drop_nulls().str.to_lowercase().unique().to_list()
    return Words(sorted(names), sorted(value for value in values if is_value(value)))
