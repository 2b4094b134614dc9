"""Tables: rows come back as they went in, in any number; findings and accounts."""

from itertools import islice
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_text_rules import NONE, UNSCANNED

from contract import params
from contract.errors import RawDataError
from data_pipeline import table_writer
from data_pipeline.stages.read import read_dataset
from data_pipeline.stages.validate import Raw, validate
from data_pipeline.table_writer import TableWriter
from data_pipeline.tables import ROWS, Account, Block, Entity, NegativeText, Region, Text
from data_pipeline.validation.rules import Rule, Table, apply


@pytest.mark.parametrize("count", [0, 1, 3, 4, 16, 17, 40])
def test_rows_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(table_writer, "BATCH", 4)
    monkeypatch.setattr(table_writer, "ROW_GROUP", 16)
    rows = [
        Entity(f"0{n}", n, n + 1, "1:2", None, [str(n)] * (n % 3), "annotated", 0, "f", "/p")
        for n in range(count)
    ]
    with TableWriter(tmp_path / "t.parquet", Entity) as writer:
        for row in rows:
            writer.add(row)
    assert writer.count == count
    assert [Entity(*row) for row in pl.read_parquet(tmp_path / "t.parquet").iter_rows()] == rows


@given(st.lists(st.integers(1, 40), max_size=6), st.integers(1, 16))
def test_blocks_and_rows_make_one_table(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], group: int
) -> None:
    """In the order given; a row group is full before the next begins, whatever came in one block."""
    path = tmp_path_factory.mktemp("table") / "t.parquet"
    numbers = iter(range(sum(sizes)))
    wanted = [
        Entity(str(n), n, n + 1, "1", None, ["5"], "annotated", 0, "f", f"/{n}") for n in range(sum(sizes))
    ]
    shared = {
        "span": "1",
        "name": None,
        "regions": ["5"],
        "source": "annotated",
        "drop": 0,
        "source_file": "f",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_writer, "ROW_GROUP", group)
        with TableWriter(path, Entity) as writer:
            for turn, size in enumerate(sizes):
                part = [(str(n), n, n + 1, f"/{n}") for n in islice(numbers, size)]
                if turn % 2:
                    writer.add_block(Block(Entity, ("text", "start", "end", "position"), part, shared))
                else:
                    for text, start, end, position in part:
                        writer.add(Entity(text, start, end, position=position, **shared))
    assert [Entity(*row) for row in pl.read_parquet(path).iter_rows()] == wanted
    facts = pq.read_metadata(path)
    groups = [facts.row_group(number).num_rows for number in range(facts.num_row_groups)]
    assert sum(groups) == writer.count == len(wanted) and all(rows == group for rows in groups[:-1])


def test_a_column_that_a_block_leaves_out_has_the_default(tmp_path: Path) -> None:
    columns = ("picture", "region", "x", "y", "w", "h", "name", "attributes", "position")
    rows = [("1", "a", 0.0, 0.0, 1.0, 2.0, "cat", ["red"], "/a")]
    with TableWriter(tmp_path / "t.parquet", Region) as writer:
        writer.add_block(
            Block(Region, columns, rows, {"crowd": False, "mask": [], "drop": 0, "source_file": "f"})
        )
    (row,) = pl.read_parquet(tmp_path / "t.parquet").iter_rows(named=True)
    assert row["normalised"] is Region._field_defaults["normalised"] and row["mask"] == []


def test_negatives_are_structs(tmp_path: Path) -> None:
    row = Text(
        "1",
        "2",
        "phrase",
        " a cat ",
        None,
        "",
        [],
        [],
        [],
        [NegativeText("a dog", "given")],
        "val",
        0,
        "f",
        "/p",
    )
    with TableWriter(tmp_path / "t.parquet", Text) as writer:
        writer.add(row)
    read = pl.read_parquet(tmp_path / "t.parquet").row(0, named=True)
    assert read["negatives"] == [{"text": "a dog", "kind": "given"}] and read["content"] == " a cat "


def test_a_failed_read_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "image_data.json").write_text('[{"image_id": 1,')
    dataset = params.Dataset(
        format="visual_genome", folder=str(tmp_path), raw=[params.Drop(shards={"train": 1})]
    )
    with pytest.raises(RawDataError, match="image_data.json, byte 16"):
        read_dataset("vg", dataset, tmp_path / "read/vg", {})
    assert not list((tmp_path / "read").iterdir())


def test_an_account_must_balance() -> None:
    with pytest.raises(AssertionError, match="texts: 3 rows read, 1 kept"):
        Account().add("texts", 3, 1, 1)


def test_first_reject_wins_and_flags_judge_the_kept() -> None:
    rows = pl.DataFrame(
        {"id": ["a", "b", "c", None], "n": [1, 2, None, 4], "source_file": "f", "position": "/"}
    )
    rules = [
        Rule("two", "reject", pl.col("n") == 2),
        Rule("even", "reject", pl.col("n") % 2 == 0),
        Rule("odd", "flag", pl.col("n") % 2 == 1, pl.format("n = {}", "n")),
        Rule("low", "repair", pl.col("n") < 3),
    ]
    kept, findings = apply(rows, Table("things", pl.col("id").fill_null("?"), ["id", "n"]), rules)
    assert kept["id"].to_list() == ["a", "c"]  # a null predicate is no reject
    assert findings.select("id", "outcome", "reason", "detail").rows() == [
        ("b", "reject", "two", ""),
        ("?", "reject", "even", ""),
        ("a", "flag", "odd", "n = 1"),
        ("a", "repair", "low", ""),
    ]
    assert findings["record"][0] == '{"id":"b","n":2}'


def test_no_setting_hides_what_it_would_drop() -> None:
    """box_sizes.json counts before `boxes.min_area`: a setting is chosen by it."""
    places = {"drop": [0] * 2, "source_file": ["f"] * 2, "position": ["/"] * 2}
    regions = {"picture": ["1"] * 2, "region": ["a", "b"], "x": [0.0] * 2, "y": [0.0] * 2, "w": [5.0, 90.0]}
    regions |= {"h": [5.0, 90.0], "name": [""] * 2, "attributes": [[""]] * 2, "crowd": [False] * 2, **places}
    regions |= {"mask": [[0.0, 0.0, 5.0, 5.0], [0.0, 0.0, 90.0, 90.0]], "normalised": [False] * 2}
    frames = {table: table_writer.schema(kind).empty_table() for table, kind in ROWS.items()}
    raw = {table: pl.DataFrame(frame) for table, frame in frames.items()}
    image = {"picture": ["1"], "file": ["1.jpg"], "split": ["train"], "width": [100]}
    image |= {"height": [100], "source_ids": [[""]], "drop": [0], "source_file": ["f"], "position": ["/"]}
    catalogue = pl.DataFrame(
        {"picture": ["1"], "drop": [0], "split": ["train"], "width": [100], "height": [100]}
    )
    raw |= {"regions": pl.DataFrame(regions), "images": pl.DataFrame(image)}
    raw = {name: frame.cast(dict(pl.DataFrame(frames[name]).schema)) for name, frame in raw.items()}
    judged, sizes = validate(
        Raw(**raw, unusable=NONE, scanned=UNSCANNED), catalogue, params.BoxRules(min_area=0.01)
    )
    assert judged["regions"].kept["region"].to_list() == ["b"] and sizes["0.01"] == 1
