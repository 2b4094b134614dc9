"""Numbers → the geometry of a chart. The template draws it as SVG, so no text passes here unescaped.

Lengths are units of the chart's own viewBox; y grows downwards.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from data_pipeline.pictures.drawing import colour
from data_pipeline.report.flow import STAGES, Step
from data_pipeline.report.verbatim import Verbatim

Point = tuple[float, float]
Say = Callable[[float], str]

WIDTH, HEIGHT = 560, 270  # of a plot
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 14, 46  # its margins
MOST_TICKS = 6
ROUNDING = 1e-9  # of a tick: 0.3 / 0.1 is three ticks and not four


class Tick(NamedTuple):
    """A place on an axis and what is written there."""

    at: float
    text: str


class Curve(NamedTuple):
    """One line of a plot, as SVG path data."""

    name: str
    colour: str
    path: Verbatim


class Plot(NamedTuple):
    """Lines over two axes. filled: the area below each line is tinted."""

    title: str
    x_label: str
    y_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    curves: list[Curve]
    filled: bool


def plot(
    title: str,
    series: Mapping[str, Sequence[Point]],
    x: tuple[str, Say],
    y: tuple[str, Say],
    filled: bool = False,
) -> Plot:
    """series: {name: points, ascending in x}. x, y: the label of an axis and how its numbers are written.

    The y axis begins at 0, and so does an x axis of which no number is negative.
    """
    points = [point for line in series.values() for point in line]
    xs = ticks(min(0.0, *(at for at, _ in points)), max(at for at, _ in points))
    ys = ticks(0.0, max(value for _, value in points) or 1.0)
    across = _scale(xs[0], xs[-1], LEFT, WIDTH - RIGHT)
    up = _scale(ys[0], ys[-1], HEIGHT - BOTTOM, TOP)
    curves = [
        Curve(name, colour(row), _path([(across(at), up(value)) for at, value in line]))
        for row, (name, line) in enumerate(series.items())
    ]
    x_ticks = [Tick(across(at), x[1](at)) for at in xs]
    return Plot(title, x[0], y[0], x_ticks, [Tick(up(at), y[1](at)) for at in ys], curves, filled)


def steps(edges: Sequence[float], shares: Sequence[float]) -> list[Point]:
    """The outline of a histogram: N + 1 edges and N heights → its corners."""
    bars = zip(edges, edges[1:], shares, strict=False)
    corners = [(edge, share) for low, high, share in bars for edge in (low, high)]
    return [(edges[0], 0.0), *corners, (edges[-1], 0.0)]


def ticks(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 × 10ⁿ that enclose both ends."""
    span = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / MOST_TICKS))
    size = next(step * power for step in (1, 2, 5, 10) if span / (step * power) <= MOST_TICKS)
    first, last = math.floor(low / size + ROUNDING), math.ceil(high / size - ROUNDING)
    return [number * size for number in range(first, max(last, first + 1) + 1)]


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: round(start + (value - low) / (high - low) * (end - start), 2)


def _path(points: Sequence[Point]) -> Verbatim:
    return Verbatim("M" + "L".join(f"{x:g},{y:g}" for x, y in points))


LANE, LANE_TOP = 54, 32  # height of one table's lane; room above the first for the stages' names
RIVER, FLOW_WIDTH = 24, 900  # thickness of the rows as the source has them; width of the picture
FIRST, LAST = 150, 780  # x of the first and of the last stage
THINNEST = 1.0  # of what is lost: one row of a million can be seen


class Loss(NamedTuple):
    """Rows that leave: the path of the branch, and where its number stands."""

    path: str
    x: float
    y: float
    text: str


class Lane(NamedTuple):
    """One table: the body of its river, its stations (x, top, height), what leaves and what joins (gains)."""

    table: str
    y: float
    body: Verbatim
    stations: list[tuple[float, float, float]]
    losses: list[Loss]
    gains: list[Tick]
    source: str
    end: str
    end_x: float


class River(NamedTuple):
    """All tables of one dataset, each to its own scale. stages: where their names stand."""

    dataset: str
    width: float
    height: float
    stages: list[Tick]
    lanes: list[Lane]


def river(dataset: str, tables: Mapping[str, Sequence[Step]]) -> River:
    """The flow of a dataset's rows through the stages as a picture."""
    gap = (LAST - FIRST) / (len(STAGES) - 1)
    places = {stage: FIRST + gap * number for number, stage in enumerate(STAGES)}
    lanes = [
        _lane(table, LANE_TOP + LANE * number, rows, places)
        for number, (table, rows) in enumerate(tables.items())
    ]
    names = [Tick(at, stage) for stage, at in places.items()]
    return River(dataset, FLOW_WIDTH, LANE_TOP + LANE * len(lanes), names, lanes)


def _lane(table: str, y: float, rows: Sequence[Step], places: Mapping[str, float]) -> Lane:
    unit = RIVER / max(step.read for step in rows)
    xs = [places[step.stage] for step in rows]
    starts = [FIRST - 46.0, *xs[:-1]]
    body = "".join(
        f"M{start:g},{y:g}H{x:g}V{y + step.read * unit:g}H{start:g}Z"
        for start, x, step in zip(starts, xs, rows, strict=True)
    )
    end = xs[-1] + 46.0
    body += f"M{xs[-1]:g},{y:g}H{end:g}V{y + rows[-1].kept * unit:g}H{xs[-1]:g}Z"
    stations = [(x, y, step.read * unit) for x, step in zip(xs, rows, strict=True)]
    losses = [_loss(x, y, step, unit) for x, step in zip(xs, rows, strict=True) if step.rejected]
    gains = [Tick(x - 5, f"+{step.added:,}") for x, step in zip(xs, rows, strict=True) if step.added]
    return Lane(
        table, y, Verbatim(body), stations, losses, gains, f"{rows[0].read:,}", f"{rows[-1].kept:,}", end
    )


def _loss(x: float, y: float, step: Step, unit: float) -> Loss:
    """A branch that leaves the river's lower edge at station x and bends down."""
    thick = max(step.rejected * unit, THINNEST)
    top, out, down = y + step.kept * unit, x + 14 + thick, y + RIVER + 12
    path = (
        f"M{x:g},{top:g}Q{out:g},{top:g} {out:g},{down:g}H{out - thick:g}"
        f"Q{out - thick:g},{top + thick:g} {x:g},{top + thick:g}Z"
    )
    return Loss(path, out + 4, down, f"−{step.rejected:,}")
