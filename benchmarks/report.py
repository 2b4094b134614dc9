"""What every benchmark writes: figures beside their goals, with the machine they were measured on."""

import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psutil
from msgspec import Struct

FOLDER = Path(__file__).parent / "results"
START, END = "<!-- figures: python -m benchmarks.{name} --readme -->\n", "<!-- end of figures -->"
GOAL = re.compile(r"([<>]) (\d+(?:\.\d+)?)")


class Figure(Struct, forbid_unknown_fields=True):
    """One measured number. figure: what, with its unit; goal: such as "< 12"; against: compared with what."""

    figure: str
    value: float
    goal: str = ""
    ok: bool | None = None
    against: str = ""


class Results(Struct, forbid_unknown_fields=True):
    """benchmarks/results/<name>.json."""

    name: str
    machine: dict[str, str | int | float]
    figures: list[Figure]


def figure(what: str, value: float, goal: str = "", against: str = "") -> Figure:
    """A figure, held against its goal if it has one, and rounded for show."""
    shown = round(value, 2)
    if not goal:
        return Figure(what, shown, against=against)
    match = GOAL.fullmatch(goal)
    assert match, f"a goal reads like '< 12', not '{goal}'"
    limit = float(match[2])
    return Figure(what, shown, goal, value < limit if match[1] == "<" else value > limit, against)


def machine() -> dict[str, str | int | float]:
    """What a reader needs to judge the figures by."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "processor": _processor(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.+)$", known.read_text(), re.MULTILINE) if known.is_file() else None
    return found[1] if found else platform.processor() or platform.machine()


def write(name: str, figures: Sequence[Figure]) -> Results:
    """Print the table and keep it as benchmarks/results/<name>.json."""
    results = Results(name, machine(), list(figures))
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    print(table(results))
    return results


def table(results: Results) -> str:
    """Aligned text, the machine first."""
    width = max(len(row.figure) for row in results.figures)
    lines = [f"{key + ':':<13}{value}" for key, value in results.machine.items()]
    for row in results.figures:
        goal = f"  {'ok' if row.ok else 'MISSED':<7}{row.goal}" if row.goal else ""
        against = f"  ({row.against})" if row.against else ""
        lines.append(f"{row.figure:<{width}}{row.value:>10,.2f}{goal}{against}")
    return "\n".join(lines)


def markdown(results: Results) -> str:
    """The same for README: figures with a goal only."""
    known = results.machine
    lines = [
        f"Measured on {known['cores']} cores, no GPU ({known['processor']}, Python {known['python']}):\n"
    ]
    lines += ["| figure | measured | goal |", "|---|---|---|"]
    lines += [f"| {row.figure} | {row.value:,.4g} | {row.goal} |" for row in results.figures if row.goal]
    return "\n".join(lines) + "\n"


def write_readme(page: Path, results: Results) -> None:
    """Put the figures between the page's two marks."""
    text, start = page.read_text("utf8"), START.format(name=results.name)
    before, mark, rest = text.partition(start)
    _, end, after = rest.partition(END)
    if not (mark and end):
        raise SystemExit(f"{page} has no place for these figures: {start}{END}")
    page.write_text(before + mark + markdown(results) + end + after, "utf8")
