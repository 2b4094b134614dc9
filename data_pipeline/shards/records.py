"""Clean tables of one shard → its records as JSON, whole columns at a time.

A table has the columns of data_pipeline/tables.py. Ids become positions here: a region its row in the record,
a named picture its key. The bytes are those that contract.codec writes of the same record.
"""

import re
from collections.abc import Iterable

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
from msgspec import Struct
from numpy.typing import ArrayLike

from contract.boxes import Boxes, is_valid
from contract.errors import ShardError
from contract.index import COUNTED
from contract.record import FORMAT_VERSION, Record, Regions, Text

ROLES = pl.Enum(["question", "statement", "caption", "phrase", "edit"])  # their order in a record
NEGATIVES = pl.List(pl.Struct({"text": pl.String, "tokens": pl.List(pl.Int32), "kind": pl.String}))  # NegText
DECIMALS = 6


def encode(
    pictures: pl.DataFrame, regions: pl.DataFrame, texts: pl.DataFrame, entities: pl.DataFrame
) -> pl.DataFrame:
    """`key`, `path`, `json` and contract.index.COUNTED of each picture, ascending by key.

    texts: `target` and `members` are keys. ShardError for a row that would make a record unsound.
    """
    placed = pictures.sort("key").with_row_index("at")
    boxes = _boxes(regions, placed)
    ordered = _texts(texts, placed, boxes)
    spans = _spans(entities, ordered, boxes)
    complete = _with_spans(ordered, spans)
    _check(placed, boxes, complete, spans)
    assert (len(boxes), len(ordered), len(spans)) == (len(regions), len(texts), len(entities))
    records = placed.rename({"picture": "id"}).with_columns(
        v=pl.lit(FORMAT_VERSION),
        regions=_regions(boxes, len(placed)),
        texts=lists(complete.select(_struct(Text)).to_series(), complete["at"], len(placed)),
    )
    json = _struct(Record).struct.json_encode().str.replace_all(DEFAULTS, "")
    return records.select("key", "path", json.alias("json"), *_counts(complete, len(placed)))


def _struct(kind: type[Struct]) -> pl.Expr:
    """The columns named like the fields of `kind` as one, in its order."""
    return pl.struct(kind.__struct_fields__)


def _defaults(kinds: Iterable[type[Struct]]) -> str:
    """A pattern of the fields that a record leaves out.

    Inside a JSON string every quotation mark follows a backslash, so only a field can match.
    """
    fields = [field for kind in kinds for field in msgspec.structs.fields(kind) if not field.required]
    written = {f'"{field.name}":{msgspec.json.encode(_default(field)).decode()}' for field in fields}
    return f",?(?:{'|'.join(map(re.escape, sorted(written)))})"


def _default(field: msgspec.structs.FieldInfo) -> object:
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


DEFAULTS = _defaults([Regions, Text])


def lists(values: pl.Series, owners: ArrayLike, count: int) -> pl.Series:
    """A list per owner 0 … count-1 of the values that stand together in the owners' ascending order."""
    offsets = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(owners, minlength=count), out=offsets[1:])
    return pl.Series(pa.LargeListArray.from_arrays(pa.array(offsets), values.rechunk().to_arrow()))


def looked_up(rows: pl.DataFrame, column: str, table: pl.DataFrame) -> pl.DataFrame:
    """The names in the lists of `column`, one a row: `owner`, the number of its row, and `value`.

    table: its last column holds the values, the one before it the names, and what precedes is in `rows` too.
    """
    *own, name, value = table.columns
    numbered = rows.select(pl.int_range(pl.len()).alias("owner"), *own, pl.col(column).alias(name))
    long = numbered.explode(name).drop_nulls(name)
    found = long.join(table, on=[*own, name], how="left", maintain_order="left")
    if found[value].null_count():
        lost = found.filter(pl.col(value).is_null())[name][0]
        raise ShardError(f"{column} '{lost}'", "is named but not there", fix="run validate and spans again")
    return found.select("owner", value=value)


def _linked(rows: pl.DataFrame, column: str, boxes: pl.DataFrame) -> pl.Series:
    """The lists of regions in `column` as ascending rows of the record's."""
    found = looked_up(rows, column, boxes.select("at", "region", "row")).sort("owner", "value")
    return lists(found["value"], found["owner"], len(rows))


def rounded(boxes_R4: Boxes) -> Boxes:
    """Valid xyxy boxes to six decimals, still valid: an edge never meets the one across."""
    boxes = np.round(boxes_R4, DECIMALS)
    step = 10.0**-DECIMALS
    for low, high in ((0, 2), (1, 3)):
        flat = boxes[:, low] >= boxes[:, high]
        boxes[flat, low] = np.minimum(boxes[flat, low], 1 - step)
        boxes[flat, high] = boxes[flat, low] + step
    return np.round(boxes, DECIMALS)


def _boxes(regions: pl.DataFrame, placed: pl.DataFrame) -> pl.DataFrame:
    """Regions in the order of the records, with `at`, their `row` in the record and `box`; 9 before 10."""
    counted = ("at", pl.col("region").str.len_bytes(), "region")
    ordered = regions.join(placed.select("picture", "at"), on="picture").sort(counted)
    edges = ordered.select("x0", "y0", "x1", "y1").to_numpy()
    box = pl.Series("box", rounded(edges), pl.Array(pl.Float64, 4))
    row = pl.int_range(pl.len(), dtype=pl.UInt32).over("at")
    return ordered.with_columns(box, pl.Series("valid", is_valid(edges)), row=row)


def _regions(boxes: pl.DataFrame, count: int) -> pl.Series:
    """Regions of the record, per picture."""
    columns = {"id": boxes["region"], "box": boxes["box"], "name": boxes["name"].fill_null("")}
    parallel = {name: lists(values, boxes["at"], count) for name, values in columns.items()}
    crowd = boxes.filter("crowd")
    return (
        pl.DataFrame(parallel | {"crowd": lists(crowd["row"], crowd["at"], count)})
        .select(_struct(Regions))
        .to_series()
    )


def _texts(texts: pl.DataFrame, placed: pl.DataFrame, boxes: pl.DataFrame) -> pl.DataFrame:
    """Texts in the order of the records, with `at`; columns are named like the record's."""
    named = texts.rename({"text": "id", "content": "text"}).cast({"role": ROLES, "negatives": NEGATIVES})
    ordered = named.join(placed.select("picture", "at"), on="picture").sort("at", "role", "id")
    about = _linked(ordered, "about", boxes)
    return ordered.with_columns(pl.col("type").fill_null(""), about=about).with_row_index("number")


def _spans(entities: pl.DataFrame, texts: pl.DataFrame, boxes: pl.DataFrame) -> pl.DataFrame:
    """Spans in the order of the records, with the `number` of their text and the `rows` they link to."""
    sizes = {"chars": pl.col("text").str.len_chars(), "words": pl.col("tokens").list.len()}
    owners = texts.select("number", "at", **sizes, text="id")
    ordered = entities.join(owners, on="text").sort(
        "number", "start", "end", "regions", "token_start", "token_end"
    )
    return ordered.with_columns(rows=_linked(ordered, "regions", boxes))


def _with_spans(texts: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """Texts with the four `span_*` of the record, and whether a span is `linked` to a region."""
    pairs = {"span_chars": ("start", "end"), "span_tokens": ("token_start", "token_end")}
    columns = {name: spans.select(pl.concat_arr(*ends)).to_series() for name, ends in pairs.items()}
    columns["span_regions"] = spans["rows"]
    parallel = {name: lists(values, spans["number"], len(texts)) for name, values in columns.items()}
    matched = spans.filter(source="matched")["number"].implode()
    linked = spans.filter(pl.col("rows").list.len() > 0)["number"].implode()
    source = pl.when(pl.col("number").is_in(matched)).then(pl.lit("matched")).otherwise(pl.lit("annotated"))
    return texts.with_columns(**parallel, span_source=source, linked=pl.col("number").is_in(linked))


def _counts(texts: pl.DataFrame, count: int) -> list[pl.Series]:
    """contract.index.count_texts of each picture."""
    usable = texts.select(
        vqa=(pl.col("role") == "question") & pl.col("answer").is_not_null(),
        pairs=pl.col("role").is_in(["statement", "caption"]),
        region=(pl.col("about").list.len() > 0) | pl.col("linked"),
        cir=(pl.col("role") == "edit") & (pl.col("target").list.len() > 0),
    )
    owners = texts["at"].to_numpy()
    counted = {name: np.bincount(owners[usable[name].to_numpy()], minlength=count) for name in COUNTED}
    return [pl.Series(name, values) for name, values in counted.items()]


def _check(placed: pl.DataFrame, boxes: pl.DataFrame, texts: pl.DataFrame, spans: pl.DataFrame) -> None:
    """What contract.record.problems asks of a record and the tables could break."""
    problems: list[tuple[pl.DataFrame, pl.Expr, pl.Expr]] = [
        (
            placed,
            (pl.col("width") <= 0) | (pl.col("height") <= 0),
            pl.lit("width and height must be positive"),
        ),
        (boxes, ~pl.col("valid"), pl.format("region {}: is not a valid xyxy in [0, 1]", "region")),
        (texts, pl.col("id").is_duplicated(), pl.format("text {}: is there twice", "id")),
        (spans, _outside("start", "end", "chars"), pl.format("text {}: character span out of range", "text")),
        (
            spans,
            _outside("token_start", "token_end", "words"),
            pl.format("text {}: token span out of range", "text"),
        ),
    ]
    for frame, wrong, problem in problems:
        found = frame.filter(wrong).select("at", problem=problem)
        if len(found):
            picture = placed.row(found["at"][0], named=True)["picture"]
            raise ShardError(f"picture {picture}", found["problem"][0], fix="run validate and spans again")


def _outside(start: str, end: str, length: str) -> pl.Expr:
    return (pl.col(start) < 0) | (pl.col(start) >= pl.col(end)) | (pl.col(end) > pl.col(length))
