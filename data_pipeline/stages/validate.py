"""Tables + catalogue → validate/<dataset>/{images,texts,regions,entities,findings}.parquet

Rows that break no rule are kept; boxes become normalised xyxy. A rejected row takes others with it: a
picture its texts and boxes, a text its spans; a rejected box only drops the links to it.
box_sizes.json says how many boxes each `boxes.min_area` would drop.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import msgspec
import polars as pl

from contract import params
from contract.files import atomic_path
from data_pipeline import tables
from data_pipeline.frames import findings_frame, read_table, reasons, rejected, write_findings, write_table
from data_pipeline.tables import Account
from data_pipeline.validation import box_rules, budgets, negative_rules, text_rules
from data_pipeline.validation.rules import Rule, Table, apply

LINKED = ("target", "members")  # lists of pictures in a text
_IMAGES = Table("images", pl.col("picture"), ["picture", "file", "drop", "split", "width", "height"])
_TEXTS = Table("texts", pl.col("text"), list(tables.Text._fields[:9]))
_REGIONS = Table("regions", pl.format("{}/{}", "picture", "region"), list(tables.Region._fields[:7]))
_ENTITIES = Table("entities", pl.format("{}/{}", "text", "span"), list(tables.Entity._fields[:7]))


class Raw(NamedTuple):
    """What stages read and scan gave.

    unusable: "<table>" and "<id>" of records that read could not use. scanned: picture, drop, width and
    height of the files that could be opened.
    """

    images: pl.DataFrame
    texts: pl.DataFrame
    regions: pl.DataFrame
    entities: pl.DataFrame
    unusable: pl.DataFrame
    scanned: pl.DataFrame


class Judged(NamedTuple):
    """The kept rows of one table, and what was found in it."""

    kept: pl.DataFrame
    findings: pl.DataFrame


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="a name under datasets: in params.yaml")


def run(args: argparse.Namespace) -> None:
    settings = params.load(args.params)
    params.dataset(settings, args.dataset)
    raw = load(args.dataset)
    catalogue = pl.read_parquet("images/catalogue.parquet").filter(dataset=args.dataset)
    judged, sizes = validate(raw, catalogue, settings.boxes)
    account = Account()
    with atomic_path(Path("validate", args.dataset)) as folder:
        folder.mkdir()
        for table, (kept, findings) in judged.items():
            account.add(table, len(getattr(raw, table)), len(kept), rejected(findings))
            write_table(folder / f"{table}.parquet", kept)
        findings = explained(findings_frame(found for _, found in judged.values()), lost(args.dataset))
        write_findings(folder, findings)
        account.write(folder)
        budgets.check(settings.budgets.validate, folder, "validate", args.dataset)
        (folder / "box_sizes.json").write_text(json.dumps(sizes, indent=1) + "\n")
    print(f"validate {args.dataset}: {account.summary()}\nvalidate {args.dataset}: {reasons(findings)}")


def load(dataset: str) -> Raw:
    """The tables of read/<dataset>, and the sizes of scan/<dataset>."""
    folder = Path("read", dataset)
    unusable = read_table(folder, "findings").filter(outcome="reject").select("table", "id")
    scanned = read_table(Path("scan", dataset), "pictures").select("picture", "drop", "width", "height")
    declared = {table: read_table(folder, table) for table in tables.TABLES}
    return Raw(**declared, unusable=unusable, scanned=scanned)


def lost(dataset: str) -> pl.DataFrame:
    """picture and why: what stages scan and images rejected of a dataset."""
    placed = pl.read_parquet("images/findings.parquet").filter(dataset=dataset).drop("dataset")
    found = pl.concat([read_table(Path("scan", dataset), "findings"), placed]).filter(outcome="reject")
    reason = pl.format("{} {}", "reason", "detail").str.strip_chars()
    return found.group_by(picture="id", maintain_order=True).agg(why=reason.unique(maintain_order=True))


def explained(findings: pl.DataFrame, lost: pl.DataFrame) -> pl.DataFrame:
    """What went with its picture says why the picture went."""
    why = lost.select("picture", pl.col("why").list.join(", "))
    picture = pl.col("record").str.json_path_match("$.picture")
    joined = findings.with_columns(picture=picture).join(why, on="picture", how="left", maintain_order="left")
    went = (pl.col("reason") == "picture_rejected") & pl.col("why").is_not_null()
    detail = pl.when(went).then("why").otherwise("detail")
    return joined.with_columns(detail=detail).select(findings.columns)


def validate(
    raw: Raw, catalogue: pl.DataFrame, boxes: params.BoxRules
) -> tuple[dict[str, Judged], dict[str, int]]:
    """(judged tables in the order of tables.TABLES, box sizes). catalogue: this dataset's part."""
    images = judge_images(raw.images, catalogue)
    regions = judge_regions(raw, catalogue, boxes)
    every = msgspec.structs.replace(boxes, min_area=0.0)  # what any other min_area would drop
    all_sizes = judge_regions(raw, catalogue, every) if boxes.min_area else regions
    sizes = box_rules.size_table(all_sizes.kept)
    boxed = box_rules.normalise(regions.kept)
    links = own_boxes(raw.regions, regions.kept)
    texts = judge_texts(raw.texts, raw.images, catalogue, links)
    entities = judge_entities(raw, texts.kept, links)
    unnamed = without_entity(regions.kept, texts.kept, entities.kept)
    judged = {
        "images": images,
        "texts": texts,
        "regions": Judged(boxed, pl.concat([regions.findings, unnamed])),
        "entities": entities,
    }
    return judged, sizes


def judge_images(images: pl.DataFrame, catalogue: pl.DataFrame) -> Judged:
    """Pictures of the catalogue are kept; a declared size that is not the file's is flagged."""
    joined = _with_file_size(images, catalogue)
    same_split = (pl.col("split") == "") | (pl.col("split") == pl.col("catalogue_split"))
    rules = [
        Rule("picture_rejected", "reject", pl.col("W").is_null() | ~same_split),
        Rule("picture_rejected", "reject", pl.int_range(pl.len()).over("picture", "drop", "split") > 0),
        Rule("size_differs", "flag", _size_differs(), pl.format("file {} × {}", "W", "H")),
    ]
    kept, findings = apply(joined, _IMAGES, rules)
    return Judged(kept.select(images.columns), findings)


def judge_regions(raw: Raw, catalogue: pl.DataFrame, settings: params.BoxRules) -> Judged:
    """Boxes against the rules, in pixels of the file that is kept; the kept ones carry W and H.

    A drop's boxes mean the picture of that drop: none of its sizes, declared or real, may be another.
    """
    files = catalogue.select("picture", W="width", H="height")
    given = pl.concat([raw.images.select(raw.scanned.columns), raw.scanned]).join(files, on="picture")
    sizes = given.group_by("picture", "drop").agg(size_differs=_size_differs().any())
    placed = raw.regions.join(files, on="picture", how="left", maintain_order="left")
    joined = placed.join(sizes, on=["picture", "drop"], how="left", maintain_order="left")
    return Judged(*apply(box_rules.in_pixels(joined), _REGIONS, box_rules.rules(settings)))


def own_boxes(declared: pl.DataFrame, kept: pl.DataFrame) -> pl.DataFrame:
    """drop, picture, region of the declared boxes that are the kept box of their id.

    What a drop says of a box it says of its own, and another drop may have given the id to another box.
    """
    sides = ["x", "y", "w", "h"]
    pairs = declared.join(kept.select("picture", "region", *sides), on=["picture", "region"], suffix="_kept")
    same = pl.all_horizontal(pl.col(side) == pl.col(f"{side}_kept") for side in sides)
    return pairs.filter(same).select("drop", "picture", "region")


def without_entity(regions: pl.DataFrame, texts: pl.DataFrame, entities: pl.DataFrame) -> pl.DataFrame:
    """The findings of boxes that are nothing to the kept texts and spans, and have no name of their own."""
    placed = entities.join(texts.select("text", "picture"), on="text")
    links = [texts.select("picture", region="about"), placed.select("picture", region="regions")]
    mentioned = pl.concat(links).explode("region").unique().with_columns(mentioned=True)
    joined = regions.join(mentioned, on=["picture", "region"], how="left", maintain_order="left")
    return apply(joined, _REGIONS, [box_rules.WITHOUT_ENTITY])[1]


def _with_file_size(images: pl.DataFrame, catalogue: pl.DataFrame) -> pl.DataFrame:
    """Declared pictures with the size W × H of the file that the catalogue holds of them."""
    files = catalogue.select("picture", "drop", W="width", H="height", catalogue_split="split")
    return images.join(files, on=["picture", "drop"], how="left", maintain_order="left")


def _size_differs() -> pl.Expr:
    return ((pl.col("width") != pl.col("W")) | (pl.col("height") != pl.col("H"))).fill_null(False)


def judge_texts(
    texts: pl.DataFrame, images: pl.DataFrame, catalogue: pl.DataFrame, boxes: pl.DataFrame
) -> Judged:
    """Texts against their picture, the pictures and boxes they name, and each other.

    boxes: see own_boxes.
    """
    splits = catalogue.select("picture", picture_split="split")
    joined = texts.join(splits, on="picture", how="left", maintain_order="left")
    aims = pl.DataFrame({"picture": joined["target"].list.first()})
    target = aims.join(splits, on="picture", how="left", maintain_order="left")["picture_split"]
    about = keep_links(joined, "about", boxes)
    marked = joined.with_columns(
        declared=pl.col("picture").is_in(images["picture"].implode()),
        target_lost=(pl.col("target").list.len() > 0) & target.is_null(),
        target_strays=target != pl.col("picture_split"),
        about_lost=(pl.col("about").list.len() > 0) & (about.list.len() == 0),
        about=about,
    )
    sound, own = apply(marked, _TEXTS, text_rules.OWN)
    unique, among = apply(sound, _TEXTS, text_rules.AMONG_OTHERS)
    lost = among.filter(outcome="reject")["id"]
    agreed, full = apply(unique, _TEXTS, [text_rules.statements_of(lost)])
    honest, negatives = negative_rules.drop_unsound(agreed)
    kept, members = _drop_lost_pictures(honest, splits)
    return Judged(kept.select(texts.columns), pl.concat([own, among, full, negatives, members]))


def _drop_lost_pictures(texts: pl.DataFrame, splits: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rejected pictures and those of another split leave the lists of soft targets and members.

    The text stays, flagged. splits: picture_split of every kept picture.
    """
    there = _linked_pictures(texts, splits.select("picture"))
    kept = _linked_pictures(there, splits.select("picture_split", "picture"))
    rules = [
        Rule("member_rejected", "flag", _fewer(there, texts)),
        Rule("target_in_other_split", "flag", _fewer(kept, there)),
    ]
    return kept, apply(texts, _TEXTS, rules)[1]


def _linked_pictures(texts: pl.DataFrame, allowed: pl.DataFrame) -> pl.DataFrame:
    """The texts with what `allowed` holds of their lists of pictures."""
    return texts.with_columns(keep_links(texts, name, allowed) for name in LINKED)


def _fewer(after: pl.DataFrame, before: pl.DataFrame) -> pl.Expr:
    """Of every text, whether one of its lists of pictures lost some."""
    lost = [after[name].list.len() < before[name].list.len() for name in LINKED]
    return pl.lit(lost[0] | lost[1])


def judge_entities(raw: Raw, texts: pl.DataFrame, boxes: pl.DataFrame) -> Judged:
    """Spans against their text; links to boxes that are gone are dropped, the span stays.

    boxes: see own_boxes.
    """
    contents = texts.select("text", "drop", "picture", "content")
    joined = raw.entities.join(contents, on=["text", "drop"], how="left", maintain_order="left")
    rejected = raw.unusable.filter(table="texts")["id"]
    linked = joined.with_columns(
        declared_text=pl.col("text").is_in(pl.concat([raw.texts["text"], rejected]).implode()),
        region_missing=_names_missing_region(joined, raw),
        regions=keep_links(joined, "regions", boxes),
    )
    kept, findings = apply(linked, _ENTITIES, text_rules.ENTITY)
    return Judged(kept.select(raw.entities.columns), findings)


def _names_missing_region(entities: pl.DataFrame, raw: Raw) -> pl.Series:
    """Whether a span names a box that its picture, which has boxes, never declared."""
    rejected = raw.unusable.filter(table="regions")["id"]
    declared = pl.concat([raw.regions.select(id=_REGIONS.id)["id"], rejected])
    named = entities.with_row_index("row").select("row", "picture", "regions").explode("regions").drop_nulls()
    missing = named.filter(
        pl.col("picture").is_in(raw.regions["picture"].unique().implode()),
        ~pl.format("{}/{}", "picture", "regions").is_in(declared.implode()),
    )
    return entities.with_row_index("row").select(pl.col("row").is_in(missing["row"].implode()))["row"]


def keep_links(rows: pl.DataFrame, column: str, allowed: pl.DataFrame) -> pl.Series:
    """The lists in `column` without what `allowed` does not hold, order kept.

    The last column of `allowed` is what the lists name; the others are columns of `rows`.
    """
    *own, name = allowed.columns
    numbered = rows.select(pl.int_range(pl.len()).alias("row"), *own, pl.col(column).alias(name))
    long = numbered.explode(name).with_row_index("place")
    there = long.join(allowed.unique(), on=[*own, name], how="semi").sort("place")
    lists = there.group_by("row", maintain_order=True).agg(pl.col(name).alias(column))
    every = numbered.select("row").join(lists, on="row", how="left", maintain_order="left")
    return every[column].fill_null([])
