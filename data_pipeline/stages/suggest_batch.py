"""Measure an encoder at several batch sizes and numbers of threads, and say what to write into params.yaml.

Nothing is changed: both settings are part of what shapes the bytes of a column, so another choice encodes all
of its pictures anew.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator

import numpy as np
import torch
from msgspec import Struct

from contract import params
from contract.seeds import rng
from data_pipeline.features import encode
from data_pipeline.features.encode import Frozen

BATCHES = (1, 2, 4, 8, 16, 32, 64)
NEAR = 0.95  # of the best speed: the smallest batch that reaches it wastes least on a shard's last one


class Speed(Struct, frozen=True):
    """pictures: per second, of one process with so many threads."""

    batch: int
    threads: int
    pictures: float

    @property
    def per_core(self) -> float:
        return self.pictures / self.threads


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which encoder, and how long to measure."""
    parser.add_argument("encoder", help="a name under encoders: in params.yaml")
    parser.add_argument(
        "--seconds", type=duration, default=1.0, help="to measure each combination for, at least (default: 1)"
    )


def duration(text: str) -> float:
    """Seconds, more than none."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no time: say a number of seconds above 0")
    return seconds


def run(args: argparse.Namespace) -> None:
    """Print a line per combination as it is measured, then the suggestion."""
    frozen = encode.load(params.encoder(params.load(args.params), args.encoder))
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    print(f"{'batch':>5}  {'threads':>7}  {'pictures/s':>10}  {'per core':>8}")
    speeds = []
    for speed in measure(frozen, thread_counts(cores), args.seconds):
        rates = f"{speed.pictures:>10.2f}  {speed.per_core:>8.2f}"
        print(f"{speed.batch:>5}  {speed.threads:>7}  {rates}", flush=True)
        speeds.append(speed)
    print(suggestion(args.encoder, choose(speeds), cores))


def thread_counts(cores: int) -> list[int]:
    """1, 2, 4 … up to the cores."""
    return [1 << power for power in range(cores.bit_length())]


def measure(frozen: Frozen, threads: list[int], seconds: float) -> Iterator[Speed]:
    """The encoder alone, over noise that stands for pictures already decoded."""
    before = torch.get_num_threads()
    try:
        for count in threads:
            torch.set_num_threads(count)
            for batch in BATCHES:
                yield Speed(batch, count, batch / _seconds_a_batch(frozen, batch, seconds))
    finally:
        torch.set_num_threads(before)


def _seconds_a_batch(frozen: Frozen, batch: int, seconds: float) -> float:
    """The fastest of all runs within `seconds`; the first warms up."""
    side = frozen.settings.size
    inputs = rng("suggest-batch").integers(0, 256, (batch, side, side, 3), dtype=np.uint8)
    encode.encode(frozen, inputs)
    fastest, end = float("inf"), time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        encode.encode(frozen, inputs)
        fastest = min(fastest, time.perf_counter() - start)
    return fastest


def choose(speeds: list[Speed]) -> Speed:
    """The fewest threads and the smallest batch that are near the best speed of a core."""
    best = max(speed.per_core for speed in speeds)
    near = [speed for speed in speeds if speed.per_core >= NEAR * best]
    return min(near, key=lambda speed: (speed.threads, speed.batch))


def suggestion(name: str, best: Speed, cores: int) -> str:
    """The lines of params.yaml."""
    workers = max(1, cores // best.threads)
    return f"""
workers: {workers} # processes of {best.threads} thread{"s" if best.threads > 1 else ""}, for {cores} cores

encoders:
  {name}:
    batch: {best.batch}
    threads: {best.threads}

Another batch or number of threads is another column: all its pictures are encoded anew."""
