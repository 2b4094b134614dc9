"""params → raw/demo: a generated world in the official file formats, with known defects.

Its four datasets look like GQA, CIRR, Visual Genome and COCO; raw/demo/defects.json lists what the
pipeline has to find in them.
"""

import argparse
from pathlib import Path

from contract import params
from contract.errors import unknown_name
from contract.files import atomic_path
from data_pipeline.demo.world import build

FOLDER = Path("raw/demo")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world", help="a name under demo: in params.yaml")


def run(args: argparse.Namespace) -> None:
    """Write raw/demo: whole, or not at all."""
    settings = params.load(args.params)
    if args.world not in settings.demo:
        raise unknown_name(args.params, "demo world", args.world, settings.demo)
    with atomic_path(FOLDER) as folder:
        folder.mkdir()
        build(folder, settings.demo[args.world], settings.seed, _say_total, settings.workers)


def _say_total(drawn: int, total: int) -> None:
    """One line at the end, as the other stages have it; until then the engine reports."""
    if drawn == total:
        print(f"demo: {total:,} pictures in {FOLDER}")
