"""Fuseline's own stream over a set of benchmarks/stream_sets.py, in a process of its own; prints JSON.

python -m benchmarks.stream_ours FOLDER --threads 2 --order global
"""

import argparse
import json
import resource
import time
from pathlib import Path

import torch

from training.shards import open_shards
from training.stream import Stream

AHEAD = 2  # batches


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Samples a second after the first batch, the wait for that one, and by how much the process grew, MB.

    flat: what it grew by after the first epoch, over the rest of those it read.
    """
    columns = sorted(path.name for path in (options.folder / "features").iterdir())
    before, started = peak(), time.perf_counter()
    shards = open_shards([str(options.folder / "data")], columns)
    stream = Stream(
        shards,
        ["vqa"],
        batch=options.batch,
        shuffle=options.order,
        position=options.position,
        threads=options.threads,
        ahead=AHEAD,
    )
    batches = iter(stream)
    next(batches)
    first, read, epoch = time.perf_counter(), 0, 0.0
    for batch in batches:
        read += len(batch.keys)
        epoch = epoch or peak() * (read > len(stream))
        if time.perf_counter() - first > options.seconds and read >= options.epochs * len(stream):
            break
    rate = read / (time.perf_counter() - first) if read else 0.0
    grown = peak()
    batches.close()
    stream.close()
    return {
        "rate": rate,
        "first_batch": first - started,
        "grown_mb": grown - before,
        "grown_after_an_epoch_mb": grown - epoch if epoch else 0.0,
    }


def peak() -> float:
    """Peak memory of this process, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream_ours", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--order", choices=("global", "window"), default="global")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--position", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--epochs", type=int, default=0, help="at least this many (default: 0)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(measure(options)))


if __name__ == "__main__":
    main()
