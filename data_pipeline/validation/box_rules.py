"""What makes a box unusable, and what is mended: a table of (reason, predicate).

Columns: x, y, w, h (as the source has them), px, py, pw, ph (the same in pixels, top-left), W, H (the picture
file's size; null if the picture was rejected), size_differs (the drop's picture is not of the file's size, so
its boxes mean other pixels), mask (x, y, w, h of the box around the mask, or nothing).
"""

import polars as pl

from contract import boxes
from contract.params import BoxRules
from data_pipeline.validation.rules import Rule, again

NOTHING = 1e-9  # of the picture's side: no width at all, but for rounding
SIZES = (0.0, 0.0001, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05)  # shares of the picture

PIXELS = {"x": "px", "y": "py", "w": "pw", "h": "ph"}
X, Y, WIDTH, HEIGHT = map(pl.col, PIXELS.values())
W, H = pl.col("W"), pl.col("H")
RIGHT, BOTTOM = X + WIDTH, Y + HEIGHT
OVERHANG = pl.max_horizontal(-X, -Y, RIGHT - W, BOTTOM - H)  # pixels beyond the worst side; <= 0 is none
SHOWN_W = pl.min_horizontal(RIGHT, W) - pl.max_horizontal(X, pl.lit(0.0))
SHOWN_H = pl.min_horizontal(BOTTOM, H) - pl.max_horizontal(Y, pl.lit(0.0))
AREA = (SHOWN_W / W) * (SHOWN_H / H)
MASK_X, MASK_Y, MASK_W, MASK_H = (pl.col("mask").list.get(side, null_on_oob=True) for side in range(4))
MASK_EDGES = ((MASK_X, X), (MASK_Y, Y), (MASK_X + MASK_W, RIGHT), (MASK_Y + MASK_H, BOTTOM))
MASK_DIFFERENCE = pl.max_horizontal((mask - box).abs() for mask, box in MASK_EDGES)  # pixels, worst edge
MASK_DETAIL = pl.format("{} px", MASK_DIFFERENCE.round(2))
# Boxes without a name belong to phrases, and one box may well have several; crowds overlap by nature.
NAMED = (pl.col("name") != "") & ~pl.col("crowd")
REPEATED = NAMED & again("picture", "x", "y", "w", "h", "name", "crowd")


def rules(settings: BoxRules) -> list[Rule]:
    """In the order in which they are asked."""
    finite = pl.all_horizontal(pl.col("x", "y", "w", "h").is_finite())
    smallest_side = pl.min_horizontal(WIDTH / W, HEIGHT / H)
    smallest_shown = pl.min_horizontal(SHOWN_W / W, SHOWN_H / H)
    outside = (settings.max_overhang < OVERHANG) | (smallest_shown < NOTHING)
    return [
        Rule("picture_rejected", "reject", W.is_null()),
        Rule("duplicate_region", "reject", again("picture", "region")),
        Rule("size_differs", "reject", pl.col("size_differs")),
        Rule("box_not_finite", "reject", ~finite),
        Rule("box_inverted", "reject", pl.min_horizontal(WIDTH, HEIGHT) < 0),
        Rule("box_zero_area", "reject", smallest_side < NOTHING),
        Rule("box_outside", "reject", outside, pl.format("{} px beyond", OVERHANG)),
        Rule("box_too_small", "reject", settings.min_area > AREA, pl.format("{} of the picture", AREA)),
        Rule("box_overhang", "repair", OVERHANG > 0, pl.format("{} px clipped", OVERHANG)),
        Rule("duplicate_box", "flag", REPEATED),
        Rule("mask_differs", "flag", settings.max_mask_difference < MASK_DIFFERENCE, MASK_DETAIL),
    ]


# Asked of kept boxes when the texts are judged. mentioned: true where a kept text or span names the box.
UNMENTIONED = (pl.col("name") == "") & pl.col("mentioned").is_null()
WITHOUT_ENTITY = Rule("region_without_entity", "flag", UNMENTIONED)


def in_pixels(found: pl.DataFrame) -> pl.DataFrame:
    """With px, py, pw, ph: a normalised box is times the size of the file, where there is one."""
    shares = pl.col("normalised") & W.is_not_null()
    sides = zip(PIXELS.items(), (W, H, W, H), strict=True)
    return found.with_columns(
        pl.when(shares).then(pl.col(name) * side).otherwise(name).alias(pixels)
        for (name, pixels), side in sides
    )


def normalise(kept: pl.DataFrame) -> pl.DataFrame:
    """px, py, pw, ph → x0, y0, x1, y1 in [0, 1], clipped to the picture; what the rules needed goes."""
    xywh = kept.select(PIXELS.values()).to_numpy()
    xyxy = boxes.from_xywh(xywh, kept["W"].to_numpy(), kept["H"].to_numpy()).clip(0, 1)
    assert boxes.is_valid(xyxy).all(), "a box that breaks the contract passed the rules"
    edges = pl.DataFrame(xyxy, schema=["x0", "y0", "x1", "y1"])
    ids, rest = ["picture", "region"], ["name", "attributes", "crowd", "drop", "source_file", "position"]
    return pl.concat([kept.select(ids), edges, kept.select(rest)], how="horizontal")


def size_table(kept: pl.DataFrame) -> dict[str, int]:
    """Share of the picture → boxes below it: what each `boxes.min_area` would drop."""
    area = kept.select(area=AREA)["area"]
    return {f"{size:g}": int((area < size).sum()) for size in SIZES}
