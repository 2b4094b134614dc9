"""Facts and pictures → the page: one file, nothing fetched from elsewhere."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from data_pipeline.pictures import drawing
from data_pipeline.reasons import REASONS
from data_pipeline.report import charts
from data_pipeline.report.album import frame
from data_pipeline.report.verbatim import cut

TEMPLATES = Path(__file__).parent / "templates"


def render(content: Mapping[str, Any]) -> str:
    """The page of the names that the templates use. All of it is escaped: data may look like markup."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=cut,
    )
    filters: dict[str, Callable[..., Any]] = {
        "n": grouped,
        "size": size,
        "percent": percent,
        "small": small,
        "threshold": threshold,
        "tint": drawing.tint,
    }
    environment.filters |= filters
    environment.globals |= {"frame": frame, "palette": drawing.PALETTE, "charts": charts, "reasons": REASONS}
    return environment.get_template("dataset.html").render(**content)


def grouped(number: int) -> str:
    """12345 → 12,345."""
    return f"{number:,}"


def size(number: float) -> str:
    """Bytes in the unit that reads best."""
    for unit in ("B", "KB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def percent(share: float) -> str:
    """0.1234 → 12 %, small shares with a decimal; what is there is never 0 %, what is not all never 100 %."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.995 <= share < 1:
        return f"{min(100 * share, 99.9):.1f} %"
    return f"{100 * share:.1f} %" if 0 < share < 0.1 else f"{100 * share:.0f} %"


def small(share: float) -> str:
    """0.000123 → 0.0123 %: three digits, however small."""
    return f"{100 * share:.3g} %"


def threshold(share: str) -> str:
    """0.0025 → 0.25 %, with every digit."""
    return f"{100 * float(share):g} %"
