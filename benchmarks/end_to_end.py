"""README's two commands, from nothing: in a fresh clone of HEAD each, with an empty environment.

The package cache of the machine is used as it is found: with a cold one, add the time of the downloads.
"""

import argparse
import os
import re
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import msgspec
import psutil
from msgspec import Struct

from benchmarks import report
from benchmarks.report import Figure, figure

ROOT = Path(__file__).parents[1]
RESULT = report.FOLDER / "end_to_end.json"
STAGE = re.compile(r"Running stage '(.+)':")
SAMPLED_EVERY = 0.5  # seconds
GIB = 2**30


class Ran(Struct):
    """A command that ended well. lines: (seconds since the start, text)."""

    seconds: float
    peak: int  # bytes: resident sizes of the whole process tree added up, an upper bound
    lines: list[tuple[float, str]]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.end_to_end", description=__doc__)
    parser.add_argument("--readme", action="store_true", help="put the figures into README.md")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="clone into FOLDER and leave it there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        figures = [*demo(clone(folder / "demo")), *tests(clone(folder / "tests"))]
    results = report.write("end_to_end", figures)
    if options.readme:
        report.write_readme(ROOT / "README.md", results)


def clone(folder: Path) -> Path:
    """HEAD and nothing else."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    return folder


def demo(folder: Path) -> list[Figure]:
    """make demo, dvc repro once more, and the scores."""
    first = run(["make", "demo"], folder)
    again = run([".venv/bin/dvc", "repro"], folder)
    begun, done = (next(at for at, line in first.lines if line == mark) for mark in ("dvc repro", "Built"))
    scores = msgspec.json.decode((folder / "reports/evaluate.json").read_bytes()).get("vqa")
    by_type = msgspec.json.decode((folder / "reports/vqa_by_type.json").read_bytes())
    return [
        figure("`make demo` from nothing, minutes", first.seconds / 60, "< 12"),
        figure("its installation, minutes", begun / 60),
        figure("its `dvc repro`, minutes", (done - begun) / 60, "< 6"),
        *(figure(f"stage {name}, seconds", seconds) for name, seconds in stages(first.lines, done)),
        figure("a second `dvc repro`, seconds", again.seconds, "< 15"),
        figure("peak memory of `make demo`, GiB", first.peak / GIB, "< 4"),
        *(accuracies(scores, by_type) if scores else []),
    ]


def stages(lines: list[tuple[float, str]], end: float) -> list[tuple[str, float]]:
    """Seconds from each stage's first line to the next one's."""
    begun = [(match[1], at) for at, line in lines if (match := STAGE.match(line))]
    ends = [at for _, at in begun[1:]] + [end]
    return [(name, stop - start) for (name, start), stop in zip(begun, ends, strict=True)]


def accuracies(scores: dict, by_type: list[dict]) -> list[Figure]:
    """In percent and points, beside the models that cannot see."""
    relations = [row for row in by_type if row["type"].endswith("/rel")]
    asked = max(1, sum(row["questions"] for row in relations))
    ahead = sum((row["accuracy"] - row["blind"]) * row["questions"] for row in relations) / asked
    others = ("blind", "shuffled_pictures", "majority")
    over = {name: 100 * (scores["accuracy"] - scores[name]) for name in others}
    return [
        figure("demo VQA accuracy, %", 100 * scores["accuracy"]),
        figure("demo VQA, points over the blind model", over["blind"], "> 20"),
        figure("demo VQA, points over shuffled pictures", over["shuffled_pictures"], "> 15"),
        figure("demo VQA, points over the majority answers", over["majority"]),
        figure("relation questions, points over the blind model", 100 * ahead, "> 0"),
    ]


def tests(folder: Path) -> list[Figure]:
    """make test."""
    ran = run(["make", "test"], folder)
    return [figure("`make test` from nothing, minutes", ran.seconds / 60, "< 12")]


def run(command: list[str], folder: Path) -> Ran:
    """Run with PATH and HOME alone in the environment; show its output as it comes."""
    path = f"{folder}/.venv/bin{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "HOME": os.environ["HOME"]}
    start, lines = time.perf_counter(), []
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    peaks = [0]
    threading.Thread(target=watch, args=(process.pid, peaks), daemon=True).start()
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append((time.perf_counter() - start, line.rstrip()))
    if process.wait():
        raise SystemExit(f"{' '.join(command)} failed with status {process.returncode}")
    return Ran(time.perf_counter() - start, max(peaks), lines)


def watch(pid: int, peaks: list[int], every: float = SAMPLED_EVERY) -> None:
    """Add the tree's resident bytes to `peaks` until the process is gone."""
    try:
        root = psutil.Process(pid)
        while root.is_running() and root.status() != psutil.STATUS_ZOMBIE:
            peaks.append(sum(resident(process) for process in [root, *root.children(recursive=True)]))
            time.sleep(every)
    except psutil.NoSuchProcess:
        return


def resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0


if __name__ == "__main__":
    main()
