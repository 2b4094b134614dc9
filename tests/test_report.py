"""Stage report: the same numbers in page and JSON, nothing fetched from elsewhere, nothing left unsaid."""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import by_hand
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.report import dataset_facts, report_page
from data_pipeline.stages import negatives, report, shards

ARGS = argparse.Namespace(params=Path("params.yaml"))


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    by_hand.build(tmp_path)
    by_hand.reportable(tmp_path)
    monkeypatch.chdir(tmp_path)
    shards.run(ARGS)
    negatives.run(ARGS)
    return tmp_path


def made() -> tuple[dict[str, Any], str]:
    report.run(ARGS)
    return json.loads(report.NUMBERS.read_text()), report.PAGE.read_text()


def test_the_numbers_are_those_of_the_tables(built: Path) -> None:
    facts, page = made()
    totals = facts["totals"]
    assert (totals["pictures"], totals["texts"], totals["regions"], totals["spans"]) == (6, 6, 0, 2)
    assert (totals["rejected"], totals["cascaded"]) == (4, 1)
    assert facts["headline"] in page.replace("&#39;", "'")
    assert facts["splits"][:2] == [
        {"dataset": "gqa", "split": "train", "pictures": 3, "texts": 4, "groups": 2},
        {"dataset": "gqa", "split": "val", "pictures": 1, "texts": 1, "groups": 1},
    ]
    assert facts["answers"][0]["top"] == [["red", 1.0]]
    assert [row["column"] for row in facts["disk"]] == ["data", "features/vit", "negatives"]


def test_the_page_stands_alone_and_stays_small(built: Path) -> None:
    _, page = made()
    assert not re.search(r"""(src|href)=["']?(https?:|//)""", page) and "<link" not in page
    assert "url(" not in page and "@import" not in page
    assert report.PAGE.stat().st_size < 6_000_000


def test_what_the_data_says_is_text_and_never_markup(built: Path) -> None:
    _, page = made()
    assert "<script" not in page and "&lt;script&gt;" in page


def test_every_reason_has_its_count_and_its_example(built: Path) -> None:
    facts, page = made()
    assert {row["reason"]: row["count"] for row in facts["findings"]} == {
        "box_outside": 1,
        "blank_text": 1,
        "picture_rejected": 1,
        "span_out_of_range": 1,
        "picture_missing": 1,
    }
    for row in facts["findings"]:
        assert row["cascade"] or f'id="{row["reason"]}-{row["outcome"]}-{row["table"]}"' in page
    assert report_page.RED in page and "no picture" in page


def test_two_runs_write_the_same_bytes(built: Path) -> None:
    assert made() == made()


def test_random_weights_are_said_loudly_and_absent_pictures_counted(built: Path) -> None:
    tokens = {name: by_hand.vector(number) for number, (_, _, name, *_) in enumerate(by_hand.PLACES)}
    by_hand.features(built, tokens | {"10": np.zeros((0, 4), np.float16)})
    facts, page = made()
    (column,) = facts["features"]
    assert "RANDOM WEIGHTS" in page and column["random"]
    assert (column["absent"], column["sampled"], column["dead"]) == (1, 5, 0)


def test_a_picture_in_training_and_evaluation_is_a_leak(built: Path) -> None:
    path = Path("images/catalogue.parquet")
    rows = pl.read_parquet(path)
    assert dataset_facts.leaks(rows) == []
    shared = pl.when(pl.col("picture").is_in(["10", "3"])).then(pl.lit("vg:10")).otherwise("group")
    rows.with_columns(group=shared).write_parquet(path)
    facts, page = made()
    assert facts["leaks"] == ["vg:10"] and "1 GROUPS OF PICTURES ARE in both" in facts["headline"]
    assert 'class="banner loud">1 groups' in page


def test_a_full_page_leaves_pictures_out_and_says_so(built: Path) -> None:
    path = Path("raw/0.jpg")
    room = len(report_page.Album().add(path)["uri"])
    album = report_page.Album(room)
    assert "uri" in album.add(path) and "full" in album.add(path)["missing"]


def test_a_picture_that_cannot_be_shown_says_why(built: Path) -> None:
    Path("broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    assert "damaged" in report_page.Album().add(Path("broken.jpg"))["missing"]
    assert "no such" in report_page.Album().add(Path("none.jpg"))["missing"]


pixels = st.floats(-1e6, 1e6)


@given(pixels, pixels, pixels, pixels, st.integers(1, 5000), st.integers(1, 5000))
def test_any_box_can_be_seen(x: float, y: float, w: float, h: float, width: int, height: int) -> None:
    box = report_page.placed({"x": x, "y": y, "w": w, "h": h}, width, height)
    pad = report_page.frame(width, height)
    assert box["w"] >= 1 and box["h"] >= 1
    assert -pad <= box["x"] <= width + pad and -pad <= box["y"] <= height + pad


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 KB"), (2.5e9, "2.5 GB"), (3e15, "3000.0 TB")]
)
def test_sizes_read_well(number: float, text: str) -> None:
    assert report_page.size(number) == text
