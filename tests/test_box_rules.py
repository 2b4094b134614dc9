"""Box rules: every box is kept or rejected for one reason, and a kept box keeps the contract."""

import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import boxes
from contract.params import BoxRules
from data_pipeline.stages.validate import _REGIONS
from data_pipeline.table_writer import schema
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
    rows = [Region("1", str(n), *box, "", [], False, [], "f", "/p") for n, box in enumerate(found)]
    table = pl.DataFrame(rows, schema=list(schema(Region).names), orient="row", infer_schema_length=None)
    size = {"W": pl.lit(100, pl.Int32), "H": pl.lit(80, pl.Int32), "size_differs": pl.lit(False)}
    return apply(table.with_columns(**(size | columns)), _REGIONS, box_rules.rules(settings or BoxRules()))


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


def test_size_table_counts_what_a_limit_would_drop() -> None:
    kept, _ = judge([(0.0, 0.0, 8.0, 10.0), (0.0, 0.0, 100.0, 80.0)])  # 1 % and all of the picture
    sizes = box_rules.size_table(kept)
    assert sizes["0.005"] == 0 and sizes["0.02"] == 1
    dropped = judge([(0.0, 0.0, 8.0, 10.0)], BoxRules(min_area=0.02))[1]
    assert dropped["reason"].to_list() == ["box_too_small"]
