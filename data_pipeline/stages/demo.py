"""params → raw/<world>: a generated world in the official file formats, with known defects.

Its four datasets look like GQA, CIRR, Visual Genome and COCO; defects.json beside them lists what the
pipeline has to find in them.
"""

import argparse
from pathlib import Path

from contract import params
from contract.errors import unknown_name
from contract.files import atomic_path
from data_pipeline.demo.world import build


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world", help="a name under demo: in params.yaml")


def run(args: argparse.Namespace) -> None:
    """Write raw/<world>: whole, or not at all."""
    settings = params.load(args.params)
    if args.world not in settings.demo:
        raise unknown_name(args.params, "demo world", args.world, settings.demo)
    out = Path("raw", args.world)

    def say_total(drawn: int, total: int) -> None:
        """One line at the end, as the other stages have it; until then the engine reports."""
        if drawn == total:
            print(f"demo: {total:,} pictures in {out}")

    with atomic_path(out) as folder:
        folder.mkdir()
        build(folder, settings.demo[args.world], settings.seed, say_total, settings.workers)
