"""What several commands take alike."""

import os
from argparse import ArgumentParser, ArgumentTypeError


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number, at least 1")
    return int(text)


def add_workers(parser: ArgumentParser, what: str) -> None:
    """`--workers`: how many of `what`, by default one per core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("--workers", type=positive, default=cores, help=f"{what} (default: one per core)")
