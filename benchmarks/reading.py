"""Stage read at the size of GQA's balanced questions, against `json.load` and a loop over the same files.

Our side is the command a user gives, start of Python and writing of the tables included; the other side is
timed from the first `json.load` to the last row in memory. Times are wall time with the page cache warm, the
two sides in turn, the best round of each; the same rows come out of both, or there is no figure.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import polars as pl
from msgspec import Struct

from benchmarks import gqa_set, report
from benchmarks.end_to_end import GIB, ROOT, run
from benchmarks.report import Figure, figure
from benchmarks.rows_digest import EVERY, digest

TABLES = ("images", "texts", "regions", "entities")
ROUNDS = 3
PARAMS = """\
datasets:
  gqa:
    format: gqa
    folder: raw
    raw:
      - shards: {train: 1}
tokenizer: {name: words.json}
encoders:
  vit: {architecture: vit, model: none, weights: random, size: 32, grid: 2}
negatives: {encoder: vit}
"""


class Side(Struct):
    """One round of one side. rows: table → (number, hash of a sample)."""

    seconds: float
    peak: int  # bytes, of the process tree
    rows: dict[str, tuple[int, str]]


def main() -> None:
    """Generate, measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reading", description=__doc__)
    parser.add_argument("--size", type=float, default=1.0, help="share of GQA (default: 1)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of each side (default: {ROUNDS})")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="generate into FOLDER and leave it there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        project = (options.keep or Path(temporary)) / f"gqa-{options.size}"
        generate(project, options.size)
        pairs = [(ours(project), plain(project)) for _ in range(options.rounds)]
        report.write("reading", figures(pairs, raw_bytes(project)))


def generate(project: Path, size: float) -> None:
    """params.yaml and raw/, unless an earlier run left them."""
    if (project / "params.yaml").is_file():
        return
    (project / "raw").mkdir(parents=True)
    gqa_set.write(project / "raw", size, seed=0)
    (project / "params.yaml").write_text(PARAMS)


def raw_bytes(project: Path) -> int:
    return sum(path.stat().st_size for path in (project / "raw").iterdir())


def ours(project: Path) -> Side:
    """python -m data_pipeline read gqa"""
    ran = run([sys.executable, "-m", "data_pipeline", "read", "gqa"], project)
    return Side(
        ran.seconds, ran.peak, {table: written(project / f"read/gqa/{table}.parquet") for table in TABLES}
    )


def written(path: Path) -> tuple[int, str]:
    """The digest of a table; only the sample is brought into Python."""
    table = pl.scan_parquet(path)
    return digest(table.select(pl.len()).collect().item(), table.gather_every(EVERY).collect().rows())


def plain(project: Path) -> Side:
    """json.load and a loop."""
    ran = run([sys.executable, "-m", "benchmarks.plain_gqa", str(project / "raw")], ROOT)
    said = json.loads(ran.lines[-1][1])
    return Side(said["seconds"], ran.peak, {table: tuple(found) for table, found in said["rows"].items()})


def figures(pairs: Sequence[tuple[Side, Side]], size: int) -> list[Figure]:
    """The best round of each side."""
    for one, other in pairs:
        if one.rows != other.rows:
            raise SystemExit(f"the two sides give other rows: {one.rows} and {other.rows}")
    fast, slow = (min((pair[side] for pair in pairs), key=lambda side: side.seconds) for side in (0, 1))
    records = sum(count for count, _ in fast.rows.values())
    return [
        figure("raw files, MB", size / 1e6),
        figure("rows, millions", records / 1e6),
        figure("stage read, seconds", fast.seconds),
        figure("`json.load` and a loop, seconds", slow.seconds),
        figure("stage read, times as fast as `json.load` and a loop", slow.seconds / fast.seconds, "> 4"),
        figure(
            "stage read, peak memory of the process tree, GiB", max(one.peak for one, _ in pairs) / GIB, "< 4"
        ),
        figure("`json.load` and a loop, peak memory, GiB", max(other.peak for _, other in pairs) / GIB),
    ]


if __name__ == "__main__":
    main()
