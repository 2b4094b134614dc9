"""Box rules: every box is kept or rejected for one reason, and a kept box keeps the contract."""

import math

import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from test_text_rules import table

from contract import boxes
from contract.params import BoxRules
from data_pipeline.stages.validate import _REGIONS, without_entity
from data_pipeline.tables import Region
from data_pipeline.validation import box_rules
from data_pipeline.validation.rules import apply

SIDE = st.one_of(
    st.floats(-20, 130), st.integers(-20, 130).map(float), st.sampled_from([math.nan, math.inf, -904.0, 0.0])
)
BOX = st.tuples(SIDE, SIDE, SIDE, SIDE)


def judge(
    found: list[tuple[float, ...]], settings: BoxRules | None = None, **columns: object
) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows = [Region("1", str(n), *box, "", [], False, [], 0, "f", "/p") for n, box in enumerate(found)]
    return judge_rows(rows, settings, **columns)


def judge_rows(
    rows: list[Region], settings: BoxRules | None = None, **columns: object
) -> tuple[pl.DataFrame, pl.DataFrame]:
    size = {"W": pl.lit(100, pl.Int32), "H": pl.lit(80, pl.Int32), "size_differs": pl.lit(False)}
    placed = box_rules.in_pixels(table(Region, rows).with_columns(**(size | columns)))
    return apply(placed, _REGIONS, box_rules.rules(settings or BoxRules()))


@given(st.lists(BOX, min_size=1, max_size=20))
def test_kept_or_rejected_once_and_sound(found: list[tuple[float, ...]]) -> None:
    kept, findings = judge(found)
    rejected = findings.filter(outcome="reject")
    assert len(kept) + len(rejected) == len(found)
    assert not set(kept.select(id=_REGIONS.id)["id"]) & set(rejected["id"])
    normal = box_rules.normalise(kept)
    assert boxes.is_valid(normal.select("x0", "y0", "x1", "y1").to_numpy()).all()
    inside = kept.filter(box_rules.OVERHANG <= 0)
    assert len(kept) - len(inside) == findings.filter(reason="box_overhang").height


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((0, 0, 100, 80), None),
        ((5, 5, 10, 10), None),
        ((math.nan, 0, 1, 1), "box_not_finite"),
        ((0, 0, math.inf, 1), "box_not_finite"),
        ((5, 5, -1, 3), "box_inverted"),
        ((5, 5, 3, -1), "box_inverted"),
        ((5, 5, 0, 3), "box_zero_area"),
        ((5, -904, 3, 3), "box_outside"),
        ((5, 5, 98, 3), "box_outside"),
        ((100, 5, 1, 3), "box_outside"),  # one pixel over, and nothing left inside
        ((5, 5, 97, 3), "box_overhang"),
        ((-1, -2, 97, 3), "box_overhang"),
    ],
)
def test_each_reason(box: tuple[float, ...], reason: str | None) -> None:
    _, findings = judge([tuple(map(float, box))])
    assert findings["reason"].to_list() == ([reason] if reason else [])


def test_limits_come_from_params() -> None:
    box = [(-5.0, 0.0, 20.0, 10.0)]
    assert judge(box)[1]["reason"].to_list() == ["box_outside"]
    assert judge(box, BoxRules(max_overhang=5.0))[1]["reason"].to_list() == ["box_overhang"]
    assert judge(box, BoxRules(max_overhang=5.0, min_area=0.1))[1]["reason"].to_list() == ["box_too_small"]


def test_a_box_of_a_lost_picture_goes_with_it() -> None:
    box = [(0.0, 0.0, 0.0, 0.0)]
    assert judge(box, W=pl.lit(None, pl.Int32))[1]["reason"].to_list() == ["picture_rejected"]
    assert judge(box, size_differs=pl.lit(True))[1]["reason"].to_list() == ["size_differs"]


def boxed(*rows: dict[str, object]) -> list[str]:
    """Reasons found for sound boxes of one name, changed by `rows`."""
    sound = Region("1", "", 5.0, 5.0, 10.0, 10.0, "dog", [], False, [], 0, "f", "/p")
    found = [sound._replace(region=str(n), **fields) for n, fields in enumerate(rows)]
    return judge_rows(found)[1].sort("id")["reason"].to_list()


def test_a_box_twice_is_flagged_and_stays() -> None:
    assert boxed({}, {}) == ["duplicate_box"]
    assert boxed({}, {"name": "cat"}) == boxed({}, {"w": 10.5}) == boxed({}, {"picture": "2"}) == []
    assert boxed({"name": ""}, {"name": ""}) == []  # two phrases of one box
    assert boxed({"crowd": True}, {"crowd": True}) == boxed({"crowd": True}, {}) == []
    assert boxed({"w": 0.0}, {"w": 0.0}) == ["box_zero_area"] * 2  # a rejected box repeats nothing


@given(st.tuples(*[st.floats(-9, 9)] * 4), st.floats(0, 9))
def test_a_mask_differs_by_its_worst_edge(moved: tuple[float, ...], limit: float) -> None:
    left, top, right, bottom = moved
    mask = [25.0 + left, 25.0 + top, 30.0 + right - left, 30.0 + bottom - top]
    worst = max(map(abs, moved))
    assume(abs(worst - limit) > 1e-6)
    box = Region("1", "1", 25.0, 25.0, 30.0, 30.0, "dog", [], False, mask, 0, "f", "/p")
    kept, found = judge_rows([box], BoxRules(max_mask_difference=limit))
    assert len(kept) == 1 and found["reason"].to_list() == (["mask_differs"] if worst > limit else [])


def test_no_mask_differs_from_nothing() -> None:
    assert boxed({"mask": []}) == [] and boxed({"mask": [0.0] * 4}) == ["mask_differs"]


def test_a_box_without_name_needs_a_text_or_a_span() -> None:
    """r1 has a phrase, r3 a span and r5 a name; r2 and r4 are named in another picture or by a lost text."""
    names = {"r1": "", "r2": "", "r3": "", "r4": "", "r5": "dog"}
    rows = [Region("1", name, 0, 0, 1, 1, kind, [], False, [], 0, "f", "/p") for name, kind in names.items()]
    texts = pl.DataFrame({"text": ["a", "b"], "picture": ["1", "2"], "about": [["r1"], ["r2"]]})
    spans = pl.DataFrame({"text": ["a", "b", "lost"], "regions": [["r3"], ["r4"], ["r4"]]})
    found = without_entity(table(Region, rows), texts, spans)
    assert found.select("id", "outcome", "reason").rows() == [
        ("1/r2", "flag", "region_without_entity"),
        ("1/r4", "flag", "region_without_entity"),
    ]


def test_the_size_table_reaches_from_0_to_5_percent() -> None:
    sizes = box_rules.size_table(judge([(0.0, 0.0, 100.0, 80.0)])[0])
    assert [float(share) for share in sizes] == sorted(box_rules.SIZES)
    assert next(iter(sizes)) == "0" and list(sizes)[-1] == "0.05" and set(sizes.values()) == {0}


def test_size_table_counts_what_a_limit_would_drop() -> None:
    kept, _ = judge([(0.0, 0.0, 8.0, 10.0), (0.0, 0.0, 100.0, 80.0)])  # 1 % and all of the picture
    sizes = box_rules.size_table(kept)
    assert sizes["0.005"] == 0 and sizes["0.02"] == 1
    dropped = judge([(0.0, 0.0, 8.0, 10.0)], BoxRules(min_area=0.02))[1]
    assert dropped["reason"].to_list() == ["box_too_small"]
