"""The numbers behind the report, theme by theme: flow, findings, boxes, texts, charts."""

from pathlib import Path

import by_hand
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contract.params import Budgets
from data_pipeline.negatives.statistics import Example, Part, Pictures, Texts
from data_pipeline.report import (
    album,
    bins,
    boxes,
    charts,
    findings,
    flow,
    negatives,
    spans,
    splits,
    verdict,
)
from data_pipeline.report.flow import Step
from data_pipeline.tables import TABLES

DATASETS = ("gqa", "cirr", "visual_genome")


# Flow


def in_shards(name: str, catalogue: pl.DataFrame) -> dict[str, int]:
    """What records of the dataset's clean tables hold."""
    stages = {"texts": "spans", "regions": "validate", "entities": "spans"}
    rows = {table: len(pl.read_parquet(f"{stage}/{name}/{table}.parquet")) for table, stage in stages.items()}
    return {"images": len(catalogue.filter(dataset=name)), **rows}


def test_the_rows_of_the_demo_add_up_through_all_stages(
    annotated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(annotated)
    catalogue = pl.read_parquet("images/catalogue.parquet")
    found = findings.findings(DATASETS, [])
    packed = {name: in_shards(name, catalogue) for name in DATASETS}
    flowing = flow.flow(DATASETS, catalogue, found, packed)
    assert flow.breaks(flowing) == []
    assert all(rows[-1].stage == "shards" for tables in flowing.values() for rows in tables.values())
    for table in TABLES:
        lacking = packed["visual_genome"] | {table: packed["visual_genome"][table] - 1}
        short = flow.flow(DATASETS, catalogue, found, packed | {"visual_genome": lacking})
        assert flow.breaks(short) == [flow.Break("visual_genome", table, "shards")]
    assert [step.stage for step in flowing["gqa"]["images"]] == list(flow.STAGES[:4]) + ["shards"]
    lost = sum(step.rejected for tables in flowing.values() for rows in tables.values() for step in rows)
    rejects = found.filter(outcome="reject")
    again = rejects.filter(stage="validate", table="images").height  # the scan's and the catalogue's
    assert lost == len(rejects) - again > 0


SOUND = [Step("read", 9, 8, 1), Step("validate", 8, 5, 3), Step("spans", 7, 7, 0, added=2)]


@given(st.integers(0, 2), st.sampled_from(["read", "kept", "rejected"]), st.integers(-20, 20))
def test_any_wrong_number_breaks_the_sum(row: int, field: str, by: int) -> None:
    assert flow.breaks({"gqa": {"texts": SOUND}}) == []
    steps = list(SOUND)
    steps[row] = replace(steps[row], **{field: getattr(steps[row], field) + by})
    broken = flow.breaks({"gqa": {"texts": steps}})
    assert bool(broken) == bool(by)
    assert all(place.table == "texts" for place in broken)


def test_rows_that_a_stage_made_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_hand.build(tmp_path)
    by_hand.reportable(tmp_path)
    monkeypatch.chdir(tmp_path)
    catalogue, found = pl.read_parquet("images/catalogue.parquet"), findings.findings(["gqa"], [])

    def flowing(**stated: int) -> flow.Flow:
        counts = dict(map(by_hand.account, [("texts", 5, 5), ("entities", 9, 9)]))
        counts["entities"] |= stated
        by_hand.write_json(Path("spans/gqa/counts.json"), counts)
        held = {"images": 4, "texts": 5, "regions": 3, "entities": 9}
        return flow.flow(["gqa"], catalogue, found, {"gqa": held})

    steps = flowing(added=7)["gqa"]["entities"]
    assert [step.stage for step in steps] == ["read", "validate", "spans", "shards"]
    assert [step.added for step in steps] == [0, 0, 7, 0]
    assert flow.breaks(flowing(added=7)) == []
    broken = [flow.Break("gqa", "entities", "spans")]
    assert flow.breaks(flowing(added=6)) == flow.breaks(flowing()) == broken


# Findings


def test_what_was_used_of_the_budgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_hand.build(tmp_path)
    by_hand.reportable(tmp_path)
    monkeypatch.chdir(tmp_path)
    found = findings.findings(["gqa", "cirr"], [])
    budgets = Budgets(validate={"blank_text": 0.5, "malformed": 0.1}, scan={"blank_text": 0.1})
    (used,) = findings.spent(found, budgets)
    assert (used.stage, used.dataset, used.table, used.count) == ("validate", "gqa", "texts", 1)
    assert used.share == pytest.approx(1 / 7) and used.limit == 0.5


# Splits


def test_a_leak_is_found_by_group_and_by_bytes() -> None:
    rows = [
        ("train", "g1", "x"),
        ("val", "g2", "x"),
        ("test", "g1", "y"),
        ("train", "g3", "z"),
    ]
    catalogue = pl.DataFrame(rows, ["split", "group", "sha256"], orient="row")
    assert splits.leaks(catalogue, "group") == ["g1"]
    assert splits.leaks(catalogue, "sha256") == ["x"]
    assert splits.leaks(catalogue.filter(split="train"), "group") == []


# Boxes


@given(st.lists(st.floats(0, 1), max_size=50))
def test_every_number_falls_into_one_bin(values: list[float]) -> None:
    counted = bins.counts(pl.Series(values, dtype=pl.Float64), boxes.AREA, boxes.AREA_LABELS)
    assert list(counted) == list(boxes.AREA_LABELS) and sum(counted.values()) == len(values)


@pytest.mark.parametrize(("value", "label"), [(0.0, "< 0.25 %"), (0.0025, "0.25–1 %"), (0.5, "> 50 %")])
def test_a_bin_holds_its_lower_edge(value: float, label: str) -> None:
    assert bins.counts(pl.Series([value]), boxes.AREA, boxes.AREA_LABELS)[label] == 1


def test_boxes_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_hand.build(tmp_path)
    by_hand.reportable(tmp_path)
    monkeypatch.chdir(tmp_path)
    catalogue, found = pl.read_parquet("images/catalogue.parquet"), findings.findings(["gqa", "cirr"], [])
    (facts,) = boxes.boxes(["gqa", "cirr"], catalogue, found, {"vit": "squash"})
    assert (facts.dataset, facts.boxes, facts.crowd, facts.pictures, facts.measured) == ("gqa", 3, 1, 4, 3)
    assert facts.per_picture["0"] == 2 and facts.per_picture["2"] == 1
    assert facts.area["10–25 %"] == 1 and facts.area["> 50 %"] == 1 and facts.area["< 0.25 %"] == 1
    assert facts.aspect["5:4–2:1"] == 2  # pictures of 48 × 32 pixels
    assert facts.unseen == {"vit": 0} and facts.sizes["0.05"] == 2


def test_boxes_at_the_ends_of_a_wide_picture_are_lost_to_a_crop() -> None:
    sides = {"x0": [0.0, 0.4, 0.2], "y0": [0.0, 0.0, 0.0], "x1": [0.2, 0.6, 0.34], "y1": [1.0, 1.0, 1.0]}
    sized = pl.DataFrame({**sides, "width": [300] * 3, "height": [100] * 3})
    assert boxes.unseen(sized, "squash") == 0
    assert boxes.unseen(sized, "letterbox") == 0
    assert boxes.unseen(sized, "centre_crop") == 2  # the crop begins at a third: it holds 0.7 % of the last


# Texts


def test_matched_spans_are_told_from_annotated_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_hand.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    path = Path("spans/gqa/entities.parquet")
    rows = pl.read_parquet(path)
    extra = rows.head(1).with_columns(source=pl.lit("matched"), regions=pl.lit([], pl.List(pl.String)))
    pl.concat([rows, extra]).write_parquet(path)
    question, statement = spans.coverage("gqa", pl.read_parquet("spans/gqa/texts.parquet"))
    assert (question.role, question.texts, question.with_spans, question.with_boxes) == ("question", 4, 1, 1)
    assert (question.spans, question.linked, question.matched) == (2, 1, 1)
    assert (statement.spans, statement.linked, statement.matched) == (1, 1, 0)
    assert question.tokens["1–4"] == 3 and question.longest == 5


def test_texts_that_the_tokenizer_does_not_know_deserve_a_look() -> None:
    counted = {"texts": 100, "text_unknown": 6, "text_truncated": 5}
    (concern,) = verdict._of_tokens({"coco": counted})
    assert concern.level == "look" and concern.text.startswith("coco: 6 % of the texts hold words")


# Negatives


def part(dataset: str, mined: list[int], random: list[int], **swaps: dict[str, int]) -> Part:
    pictures = Pictures(2, 0, mined, random, {"max_score": 3})
    counts = dict.fromkeys(["texts", "different", "near", "short", "drawn", "drawn_true"], 0)
    more = dict.fromkeys(["contradicted", "given", "edits", "members"], 0)
    texts = Texts(**counts, mined=[0] * 4, random=[0] * 4, filters={"same_picture": 2}, swaps=swaps, **more)
    return Part(dataset, "train", pictures, texts)


def test_similarity_is_compared_as_shares() -> None:
    parts = [part("a", [0, 0, 1, 3], [0, 8, 2, 0]), part("b", [0, 0, 0, 4], [0, 10, 0, 0])]
    facts = negatives.Mined({}, [-1.0, -0.5, 0.0, 0.5, 1.0], parts)
    drawn = negatives.similarity(facts, "pictures")
    assert drawn is not None and [curve.name for curve in drawn.curves] == ["mined", "random"]
    assert [tick.text for tick in drawn.y_ticks][-1] == "100 %"  # 18 of 20 random pairs lie in one bin
    assert drawn.x_ticks[0].text == "-0.5"  # nothing lies below
    assert negatives.similarity(facts, "texts") is None


def test_what_was_left_out_is_summed_per_dataset() -> None:
    parts = [
        part("a", [], [], side={"kept": 2, "unknown": 1}),
        part("a", [], [], side={"kept": 3}, object={"true": 1}),
        part("b", [], []),
    ]
    first, second = negatives.sums(parts)
    assert (first.dataset, first.passed, first.filters) == ("a", {"max_score": 6}, {"same_picture": 4})
    assert first.swaps == {"side": {"kept": 5, "unknown": 1}, "object": {"true": 1}}
    assert (second.dataset, second.swaps) == ("b", {})


def test_the_gallery_shows_each_dataset_and_role_before_it_repeats_one() -> None:
    kinds = [("a", "phrase"), ("a", "phrase"), ("a", ""), ("b", "caption")]
    found = [Example(dataset, "train", str(n), "", role, "", []) for n, (dataset, role) in enumerate(kinds)]
    catalogue = pl.DataFrame(schema=dict.fromkeys(["dataset", "key", "path"], pl.String))
    shown = negatives.gallery(found, catalogue, album.Album(0))
    assert [card["example"].key for card in shown] == ["0", "2", "3", "1"]
    assert shown[0]["picture"] == {"missing": "no picture"}


# Pictures and charts

pixels = st.floats(-1e6, 1e6)


@given(pixels, pixels, pixels, pixels, st.integers(1, 5000), st.integers(1, 5000))
def test_any_box_can_be_seen(x: float, y: float, w: float, h: float, width: int, height: int) -> None:
    box = album.placed({"x": x, "y": y, "w": w, "h": h}, width, height)
    pad = album.frame(width, height)
    assert box["w"] >= 1 and box["h"] >= 1
    assert -pad <= box["x"] <= width + pad and -pad <= box["y"] <= height + pad


@given(st.floats(-1e4, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_and_enclose_the_numbers(low: float, span: float) -> None:
    high = low + span
    marks = charts.ticks(low, high)
    slack = 1e-6 * (marks[1] - marks[0]) + 1e-9 * abs(low)
    assert marks[0] <= low + slack and marks[-1] >= high - slack
    assert 2 <= len(marks) <= charts.MOST_TICKS + 3
    assert np.diff(marks) == pytest.approx(marks[1] - marks[0], rel=1e-3)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=9))
def test_a_curve_stays_inside_its_plot(points: list[tuple[float, float]]) -> None:
    drawn = charts.plot("t", {"a": sorted(points)}, ("x", str), ("y", str))
    places = [pair.split(",") for pair in drawn.curves[0].path[1:].split("L")]
    assert len(places) == len(points)
    for x, y in places:
        assert charts.LEFT - 0.01 <= float(x) <= charts.WIDTH - charts.RIGHT + 0.01
        assert charts.TOP - 0.01 <= float(y) <= charts.HEIGHT - charts.BOTTOM + 0.01


def test_a_histogram_keeps_its_heights() -> None:
    assert charts.steps([0, 1, 2], [0.2, 0.8]) == [(0, 0), (0, 0.2), (1, 0.2), (1, 0.8), (2, 0.8), (2, 0)]


def test_a_river_is_as_wide_as_its_rows() -> None:
    steps = [Step("read", 100, 90, 10), Step("validate", 90, 45, 45)]
    (lane,) = charts.river("gqa", {"texts": steps}).lanes
    assert [height for _, _, height in lane.stations] == pytest.approx([charts.RIVER, 0.9 * charts.RIVER])
    assert [loss.text for loss in lane.losses] == ["−10", "−45"]
    assert (lane.source, lane.end) == ("100", "45")
