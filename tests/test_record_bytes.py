"""Records made of columns are, byte for byte, those that the codec writes of records made one at a time."""

from collections.abc import Mapping
from typing import Any

import by_hand
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import codec, index, record
from contract.errors import ShardError
from contract.record import NegText, Record, Regions, Text
from data_pipeline.shards import records

Row = dict[str, Any]
ROLES = ["question", "statement", "caption", "phrase", "edit"]
PICTURE = dict.fromkeys(("picture", "key", "path", "sha256", "group"), pl.String)
# Whatever JSON escapes, whatever looks like a field that is left out, and all the rest.
hostile = st.sampled_from(
    ['"', "\\", '","about":[]', '"answer":null', "\x00", "\x1f", "\x7f", "\u2028", "👩‍🚀", "é"]
)
strings = st.lists(hostile | st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=4).map(
    "".join
)
filled = strings.filter(bool)
edges = st.floats(0, 1, allow_subnormal=False).map(lambda edge: round(edge, 7))
pairs = st.tuples(edges, edges).map(sorted).filter(lambda pair: pair[0] < pair[1])


@st.composite
def spans(draw: st.DrawFn, length: int) -> tuple[int, int]:
    start = draw(st.integers(0, length - 1))
    return start, draw(st.integers(start + 1, length))


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Row], list[Row], list[Row], list[Row]]:
    """Pictures, regions, texts and entities of one shard, each in any order."""
    keys = draw(st.lists(st.text("abcXYZ019_-", min_size=1, max_size=8), unique=True, max_size=4))
    pictures, regions, texts, entities = [], [], [], []
    for number, key in enumerate(keys):
        name = f"{draw(strings)}/{number}"
        sizes = {"width": draw(st.integers(1, 9999)), "height": draw(st.integers(1, 9999))}
        facts = {"path": "x.jpg", "sha256": "0" * 64, "group": draw(strings)}
        pictures.append({"picture": name, "key": key} | sizes | facts)
        ids = draw(st.lists(filled, unique=True, max_size=4))
        for region in ids:
            (x0, x1), (y0, y1) = draw(pairs), draw(pairs)
            box, crowd = (x0, y0, x1, y1), draw(st.booleans())
            regions.append(by_hand.region(name, region, draw(st.none() | strings), box, crowd))
        links = st.lists(st.sampled_from(ids), unique=True) if ids else st.just([])
        for place in range(draw(st.integers(0, 3))):
            text = f"{number}.{place}.{draw(strings)}"
            row = draw(text_rows(text, name, links))
            texts.append(row)
            for _ in range(draw(st.integers(0, 3))):
                chars, tokens = draw(spans(len(row["content"]))), draw(spans(len(row["tokens"])))
                span = by_hand.entity(text, chars, tokens, draw(links))
                entities.append(span | {"source": draw(st.sampled_from(["annotated", "matched"]))})
    shuffled = (draw(st.permutations(rows)) for rows in (pictures, regions, texts, entities))
    return tuple(shuffled)  # type: ignore[return-value]


@st.composite
def text_rows(draw: st.DrawFn, name: str, picture: str, links: st.SearchStrategy[list[str]]) -> Row:
    tokens = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=5)
    given = st.fixed_dictionaries({"text": strings, "kind": st.just("given"), "tokens": tokens})
    return by_hand.text(
        name,
        picture,
        draw(st.sampled_from(ROLES)),
        draw(filled),
        tokens=draw(tokens),
        answer=draw(st.none() | strings),
        type=draw(strings),
        about=draw(links),
        target=draw(st.lists(filled, max_size=2)),
        members=draw(st.lists(filled, max_size=2)),
        negatives=draw(st.lists(given, max_size=2)),
    )


def frames(
    pictures: list[Row], regions: list[Row], texts: list[Row], entities: list[Row]
) -> list[pl.DataFrame]:
    return [
        pl.DataFrame(pictures, PICTURE | {"width": pl.Int32, "height": pl.Int32}),
        pl.DataFrame(regions, by_hand.REGION),
        pl.DataFrame(texts, by_hand.TEXT),
        pl.DataFrame(entities, by_hand.ENTITY),
    ]


def one_at_a_time(picture: Row, regions: list[Row], texts: list[Row], entities: list[Row]) -> Record:
    """The record of a picture as the tables say it, a row after the other."""
    own = [row for row in regions if row["picture"] == picture["picture"]]
    own.sort(key=lambda row: (len(row["region"].encode()), row["region"]))
    position = {row["region"]: number for number, row in enumerate(own)}
    boxes = records.rounded(pl.DataFrame(own, by_hand.REGION).select("x0", "y0", "x1", "y1").to_numpy())
    held = [row for row in texts if row["picture"] == picture["picture"]]
    held.sort(key=lambda row: (ROLES.index(row["role"]), row["text"]))
    return Record(
        v=1,
        id=picture["picture"],
        width=picture["width"],
        height=picture["height"],
        sha256=picture["sha256"],
        group=picture["group"],
        regions=Regions(
            id=[row["region"] for row in own],
            box=[tuple(box) for box in boxes.tolist()],
            name=[row["name"] or "" for row in own],
            crowd=[number for number, row in enumerate(own) if row["crowd"]],
        ),
        texts=[one_text(row, entities, position) for row in held],
    )


def one_text(row: Row, entities: list[Row], position: Mapping[str, int]) -> Text:
    own = [span for span in entities if span["text"] == row["text"]]
    own.sort(key=lambda span: (span["start"], span["end"], span["regions"], *ends(span), span["source"]))
    return Text(
        id=row["text"],
        role=row["role"],
        text=row["content"],
        tokens=row["tokens"],
        span_chars=[(span["start"], span["end"]) for span in own],
        span_tokens=[ends(span) for span in own],
        span_regions=[sorted(position[name] for name in span["regions"]) for span in own],
        span_source="matched" if any(span["source"] == "matched" for span in own) else "annotated",
        about=sorted(position[name] for name in row["about"]),
        answer=row["answer"],
        type=row["type"],
        target=row["target"],
        members=row["members"],
        negatives=[NegText(given["text"], given["tokens"], given["kind"]) for given in row["negatives"]],
    )


def ends(span: Row) -> tuple[int, int]:
    return span["token_start"], span["token_end"]


@given(tables())
def test_columns_give_the_bytes_of_the_codec(
    drawn: tuple[list[Row], list[Row], list[Row], list[Row]],
) -> None:
    pictures, regions, texts, entities = drawn
    encoded = records.encode(*frames(*drawn))
    assert encoded["key"].to_list() == sorted(picture["key"] for picture in pictures)
    by_key = {picture["key"]: picture for picture in pictures}
    for key, _, json, *counts in encoded.iter_rows():
        expected = one_at_a_time(by_key[key], regions, texts, entities)
        assert json.encode() == codec.encode(expected)
        assert codec.decode_record(json.encode(), key) == expected
        assert tuple(counts) == index.count_texts(expected)
        assert not record.problems(expected)


def test_a_record_is_these_bytes() -> None:
    """Golden: the format's first record, as it must stay."""
    (picture,) = [{"picture": "1", "key": "1", "path": "x", "sha256": "ab", "group": "vg:1"}]
    shard = [
        [picture | {"width": 48, "height": 32}],
        by_hand.GQA_REGIONS[:2],
        by_hand.GQA_TEXTS[:2],
        by_hand.GQA_ENTITIES,
    ]
    (json,) = records.encode(*frames(*shard))["json"]
    assert json == (
        '{"v":1,"id":"1","width":48,"height":32,"sha256":"ab","group":"vg:1",'
        '"regions":{"id":["9","10"],"box":[[0.1,0.1,0.4,0.100001],[0.5,0.5,0.9,0.9]],"name":["cube","ball"]},'
        '"texts":[{"id":"02","role":"question","text":"What color is the cube?","tokens":[4,5,2,3,5],'
        '"span_chars":[[14,22]],"span_tokens":[[3,5]],"span_regions":[[0]],"answer":"red","type":"query/attr"},'
        '{"id":"02.full","role":"statement","text":"The cube is red.","tokens":[3,4,2,4],'
        '"span_chars":[[0,8]],"span_tokens":[[0,2]],"span_regions":[[0,1]]}]}'
    )


@pytest.mark.parametrize(
    ("table", "change", "problem"),
    [
        (0, {"width": 0}, "picture 1: width and height must be positive"),
        (1, {"x1": 0.05}, "picture 1: region 10: is not a valid xyxy"),
        (2, {"text": "02.full"}, "picture 1: text 02.full: is there twice"),
        (2, {"about": ["77"]}, "about '77': is named but not there"),
        (3, {"end": 99}, "picture 1: text 02: character span out of range"),
        (3, {"token_start": 5}, "picture 1: text 02: token span out of range"),
        (3, {"regions": ["77"]}, "regions '77': is named but not there"),
    ],
)
def test_what_would_be_unsound_is_refused(table: int, change: Row, problem: str) -> None:
    facts = {"path": "x", "sha256": "ab", "group": "vg:1", "width": 48, "height": 32}
    shard: list[list[Row]] = [
        [{"picture": "1", "key": "1"} | facts],
        by_hand.GQA_REGIONS[:2],
        by_hand.GQA_TEXTS[:2],
        by_hand.GQA_ENTITIES,
    ]
    first, *rest = shard[table]
    shard[table] = [first | change, *rest]
    with pytest.raises(ShardError, match=problem):
        records.encode(*frames(*shard))
