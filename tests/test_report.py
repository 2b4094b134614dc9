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
import yaml

from contract import manifest
from contract.manifest import NegativesManifest
from data_pipeline.report import page, provenance, rejects
from data_pipeline.report.album import Album
from data_pipeline.stages import negatives, report, shards

ARGS = argparse.Namespace(params=Path("params.yaml"))
DVC = Path(__file__).parents[1] / "dvc.yaml"


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


def concerns(facts: dict[str, Any], level: str) -> list[str]:
    return [concern["text"] for concern in facts["verdict"]["concerns"] if concern["level"] == level]


def test_the_numbers_are_those_of_the_tables(built: Path) -> None:
    facts, _ = made()
    totals = facts["totals"]
    assert (totals["pictures"], totals["texts"], totals["regions"], totals["spans"]) == (6, 6, 3, 2)
    assert (totals["rejected"], totals["cascaded"], totals["rows"]) == (4, 1, 22)
    assert facts["splits"][:2] == [
        {"dataset": "gqa", "split": "train", "pictures": 3, "groups": 2, "texts": 4},
        {"dataset": "gqa", "split": "val", "pictures": 1, "groups": 1, "texts": 1},
    ]
    assert facts["answers"][0]["top"] == [["red", 1.0]]
    assert {row["folder"]: row["bytes"] for row in facts["disk"]}["raw/gqa (pictures)"] == 4000
    assert facts["raw_files"][0] == {"dataset": "gqa", "path": "a.json", "bytes": 12, "sha256": "ab" * 32}


def test_the_page_says_what_the_numbers_say(built: Path) -> None:
    facts, page = made()
    assert facts["verdict"]["headline"] in page
    for concern in facts["verdict"]["concerns"]:
        assert f'<a href="#{concern["section"]}">' in page and f'id="{concern["section"]}"' in page
    for row in facts["provenance"]:
        assert row["hash"] in page


def test_the_weights_of_a_text_encoder_are_named(built: Path) -> None:
    mined = manifest.load(Path("negatives"), NegativesManifest)
    mined.text_encoder, mined.text_weights = "weights/clip", "cd" * 32
    manifest.save(Path("negatives"), mined)
    facts, page = made()
    row = {"what": "weights of negatives.text", "which": "weights/clip", "hash": "cd" * 32}
    assert row in facts["provenance"] and row["hash"] in page


def test_the_numbers_keep_their_order(built: Path) -> None:
    facts, _ = made()
    assert list(facts)[:4] == ["verdict", "totals", "holdings", "breaks"]
    assert list(facts["flow"]) == ["gqa", "cirr"]
    assert list(facts["flow"]["gqa"]) == ["images", "texts", "regions", "entities"]


def test_the_page_stands_alone_and_stays_small(built: Path) -> None:
    _, page = made()
    assert not re.search(r"""(src|href)=["']?(https?:|//)""", page) and "<link" not in page
    assert "url(" not in page and "@import" not in page and "<script" not in page
    assert report.PAGE.stat().st_size < 6_000_000
    assert report.SAMPLES_ROOM + report.REJECTS_ROOM + report.NEGATIVES_ROOM < 5_000_000


HOSTILE = "<script>alert('<!--')</script>\"><svg onload=x> {{ 7 * 7 }}"


def test_what_the_data_says_is_text_and_never_markup(built: Path) -> None:
    texts = pl.read_parquet("spans/gqa/texts.parquet")
    hostile = [pl.lit(HOSTILE).alias(name) for name in ("answer", "type")]
    texts.with_columns(hostile).write_parquet("spans/gqa/texts.parquet")
    regions = pl.read_parquet("validate/gqa/regions.parquet").with_columns(name=pl.lit(HOSTILE))
    regions.write_parquet("validate/gqa/regions.parquet")
    found = pl.read_parquet("validate/gqa/findings.parquet")
    same = {name: pl.lit(HOSTILE) for name in ("id", "detail", "file", "position")}
    record = pl.lit(json.dumps({"picture": "10", "content": HOSTILE, "answer": HOSTILE, "name": HOSTILE}))
    found.with_columns(**same, record=record).write_parquet("validate/gqa/findings.parquet")
    shards.run(ARGS)
    _, page = made()
    assert "<script" not in page and "<svg onload" not in page
    assert page.count("&lt;script&gt;") > 10 and page.count("{{ 7 * 7 }}") > 10


def test_a_text_of_any_length_leaves_the_page_small(built: Path) -> None:
    texts = pl.read_parquet("spans/gqa/texts.parquet")
    texts.with_columns(answer=pl.lit("answer " * 1_000_000)).write_parquet("spans/gqa/texts.parquet")
    shards.run(ARGS)
    _, page = made()
    assert report.PAGE.stat().st_size < 1_000_000 and "answer …" in page and "data:image/jpeg" in page


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
    assert rejects.RED in page and "no picture" in page


def test_two_runs_write_the_same_bytes(built: Path) -> None:
    assert made() == made()


def test_random_weights_absent_pictures_and_dead_channels_are_said_loudly(built: Path) -> None:
    tokens = {name: by_hand.vector(number) for number, (_, _, name, *_) in enumerate(by_hand.PLACES)}
    by_hand.features(built, tokens | {"10": np.zeros((0, 4), np.float16)})
    facts, page = made()
    assert facts["verdict"]["level"] == "stop" and "Do not train on this" in page
    assert [text.partition(".")[0] for text in concerns(facts, "stop")] == ["vit: RANDOM WEIGHTS"]
    assert any("1 of 6 pictures have no features" in text for text in concerns(facts, "look"))
    assert any("1 of 4 channels never change" in text for text in concerns(facts, "look"))
    assert facts["features"][0]["absent"] == {"cirr": 0, "gqa": 1}


def test_an_empty_column_is_said_loudly(built: Path) -> None:
    nothing = np.zeros((0, 4), np.float16)
    by_hand.features(built, {name: nothing for _, _, name, *_ in by_hand.PLACES})
    facts, _ = made()
    assert "vit: the column is empty, no picture has features." in concerns(facts, "stop")


def test_a_picture_in_training_and_evaluation_is_a_leak(built: Path) -> None:
    path = Path("images/catalogue.parquet")
    rows = pl.read_parquet(path)
    shared = pl.when(pl.col("picture").is_in(["10", "3"])).then(pl.lit("vg:10")).otherwise("group")
    assert made()[0]["leaks"] == {"group": [], "sha256": []}
    rows.with_columns(group=shared).write_parquet(path)
    facts, page = made()
    assert facts["leaks"]["group"] == ["vg:10"]
    assert "1 GROUPS OF PICTURES ARE in both" in facts["verdict"]["headline"]
    assert any(text.startswith("1 pictures, by group") for text in concerns(facts, "stop"))
    assert 'vg:10 <span class="bad">1</span>' in page


def test_a_leak_that_stage_images_left_is_said_loudly(built: Path) -> None:
    facts, page = made()
    assert facts["verdict"]["level"] == "stop" and not [
        c for c in concerns(facts, "stop") if "evaluation" in c
    ]
    left = {
        "declared": {"sha256": {"pairs": 9, "pictures": 4}},
        "kept": {"sha256": {"pairs": 3, "pictures": 2}},
    }
    by_hand.write_json(Path("images/leakage.json"), left)
    facts, page = made()
    assert "2 training pictures are evaluation pictures, by sha256." in concerns(facts, "stop")
    assert '<span class="bad">3</span>' in page


def test_a_full_album_leaves_pictures_out_and_says_so(built: Path) -> None:
    path = Path("raw/0.jpg")
    room = len(Album(1 << 20).add(path)["uri"])
    album = Album(room)
    assert "uri" in album.add(path) and "full" in album.add(path)["missing"]


def test_a_picture_that_cannot_be_shown_says_why(built: Path) -> None:
    Path("broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    assert "damaged" in Album(1 << 20).add(Path("broken.jpg"))["missing"]
    assert "no such" in Album(1 << 20).add(Path("none.jpg"))["missing"]


def test_dvc_runs_the_report_again_for_what_the_settings_hash_covers() -> None:
    stage = yaml.safe_load(DVC.read_text())["stages"]["report"]
    assert stage["params"] == list(provenance.SECTIONS)


def test_boxes_of_a_sample_lie_where_the_record_says(built: Path) -> None:
    made()
    content = report.pictures(*_inputs())["samples"]["gqa"]
    sample = next(sample for sample in content if sample["id"] == "1")
    by_label = {box["label"]: box for box in sample["picture"]["boxes"]}
    assert (by_label["ball"]["x"], by_label["ball"]["w"]) == pytest.approx((24.0, 19.2), abs=1e-3)


def _inputs() -> tuple[Any, pl.DataFrame, pl.DataFrame]:
    from contract import params
    from data_pipeline.report import findings

    settings = params.load(ARGS.params)
    found = findings.findings(settings.datasets, settings.encoders)
    return settings, pl.read_parquet(report.CATALOGUE), found


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 KB"), (2.5e9, "2.5 GB"), (3e15, "3000.0 TB")]
)
def test_sizes_read_well(number: float, text: str) -> None:
    assert page.size(number) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (1e-6, "< 0.1 %"), (0.0123, "1.2 %"), (0.12, "12 %"), (0.9999, "99.9 %"), (1, "100 %")],
)
def test_a_share_is_never_rounded_to_none_or_to_all(share: float, text: str) -> None:
    assert page.percent(share) == text
