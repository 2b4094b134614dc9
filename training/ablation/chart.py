"""The comparison as SVG: a panel a factor, a line a value, a dot a seed, a bar at their mean.

Lengths are units of the picture; y grows downwards.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from training.ablation.scores import Line

WIDTH, LEFT, RIGHT = 640, 170, 60  # of a panel and its margins; the numbers stand on the right
STEP, HEAD, GAP = 22, 34, 12  # between lines, above and below a panel
DOT, BAR = 4, 7  # radius of a dot, half the length of the mean's bar
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#222}.head{font-weight:600}.far{fill:#777}"
    "line{stroke:#ccc}.mean{stroke:#1f5fa8;stroke-width:3}circle{fill:#1f5fa8;fill-opacity:.45}"
)


def svg(factors: Mapping[str, Sequence[Line]]) -> str:
    """factors: title → lines of one measure. Each panel has a scale of its own."""
    parts: list[str] = []
    top = 0
    for title, lines in factors.items():
        parts += _panel(title, lines, top)
        top += HEAD + STEP * len(lines) + GAP
    size = f'width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}"'
    return "\n".join(
        [f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', f"<style>{STYLE}</style>", *parts, "</svg>", ""]
    )


def _panel(title: str, lines: Sequence[Line], top: int) -> Iterable[str]:
    scores = [score for line in lines for score in line.scores]
    low, high = min(scores), max(scores)
    measure = lines[0].measure
    yield _text(0, top + 16, f"{title} · {measure}", "head")
    yield _text(LEFT, top + 30, f"{100 * low:.1f}", "far")
    yield _text(WIDTH - RIGHT, top + 30, f"{100 * high:.1f} %", "far", "end")
    for number, line in enumerate(lines):
        yield from _line(line, low, high, top + HEAD + STEP * number + STEP // 2)


def _line(line: Line, low: float, high: float, y: int) -> Iterable[str]:
    yield _text(LEFT - 12, y + 4, line.value, "value", "end")
    yield f'<line x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}"/>'
    for score in line.scores:
        yield f'<circle cx="{_across(score, low, high):.1f}" cy="{y}" r="{DOT}"/>'
    mean = _across(line.mean, low, high)
    yield f'<line class="mean" x1="{mean:.1f}" y1="{y - BAR}" x2="{mean:.1f}" y2="{y + BAR}"/>'
    yield _text(WIDTH - RIGHT + 12, y + 4, f"{100 * line.mean:.1f}", "value")


def _across(score: float, low: float, high: float) -> float:
    """Between the margins; in the middle where all scores are equal."""
    share = (score - low) / (high - low) if high > low else 0.5
    return LEFT + share * (WIDTH - RIGHT - LEFT)


def _text(x: float, y: float, words: str, style: str, anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'
