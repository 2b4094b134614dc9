"""How long a training run stands still for data, and its speed against one batch held in memory.

    make demo && python -m benchmarks.train_wait

The loop of training.fit with the settings of params.yaml, no picture held out, over the demo's shards: in
turns from the stream and with the same batches held in memory, read beforehand. The same and not one again
and again, for a step costs by how many texts it has and how long they are.
"""

import argparse
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from msgspec import structs

from benchmarks import report
from benchmarks.report import Figure, figure
from training.batching.transfer import Batches
from training.config import Train
from training.distributed import ALONE
from training.optimizing import loop
from training.optimizing.checkpoint import State
from training.optimizing.job import Job
from training.settings import load
from training.shards import ShardSet, open_shards
from training.starting.preparing import over
from training.starting.streams import streams
from training.stream import Stream

ROUNDS = 3
WARM_UP = 10  # steps that are not counted


class Watched:
    """Notes when each batch of a stream is handed over, with its texts, and how long was waited by then."""

    def __init__(self, stream: Stream, batches: int) -> None:
        self.stream, self.batches = stream, batches
        self.notes: list[tuple[float, int, float]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def __len__(self) -> int:
        return len(self.stream)

    def turns(self, device: torch.device) -> Batches:
        for end, batch in self.source(device):
            texts = 0 if batch is None else len(batch.text_id)
            self.notes.append((time.perf_counter(), texts, self.stream.waited))
            yield end, batch

    def source(self, device: torch.device) -> Batches:
        return self.stream.turns(device)

    def speed(self, warm_up: int) -> tuple[float, float]:
        """(texts a second, share of the time that was spent waiting), after so many batches."""
        notes = self.notes[warm_up:]
        seconds = notes[-1][0] - notes[0][0]
        return sum(texts for _, texts, _ in notes[:-1]) / seconds, (notes[-1][2] - notes[0][2]) / seconds


class Held(Watched):
    """The same batches, all read before the first is handed over."""

    def source(self, device: torch.device) -> Batches:
        turns = self.stream.turns(device)
        held = list(islice(turns, self.batches))
        turns.close()
        yield from held


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.train_wait",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--shards", nargs="+", default=["data"])
    parser.add_argument("--steps", type=int, default=60, help="of each of the runs (default: 60)")
    options = parser.parse_args()
    settings, seed = load(Path("params.yaml"), ["development=0", "checkpoint_every=1000000"])
    shards = open_shards(options.shards, settings.columns)
    report.write("train_wait", figures(shards, short(settings, shards, seed, options.steps), seed))


def short(settings: Train, shards: ShardSet, seed: int, steps: int) -> Train:
    """The settings of a run of so many steps."""
    stream, _ = streams(shards, settings, seed, State(0, 0))
    epochs = steps * settings.optim.batch / len(stream)
    stream.close()
    return structs.replace(settings, optim=structs.replace(settings.optim, epochs=epochs))


def figures(shards: ShardSet, settings: Train, seed: int) -> list[Figure]:
    """Rounds of both, in turns."""
    rounds = [[speed(kind, shards, settings, seed) for kind in (Watched, Held)] for _ in range(ROUNDS)]
    streamed, waiting = max(of[0] for of in rounds)
    held, _ = max(of[1] for of in rounds)
    return [
        figure("the same batches held in memory, texts/s", held),
        figure("training from shards, texts/s", streamed),
        figure("training from shards, share of that speed", streamed / held, "> 0.95"),
        figure("waiting for data, % of the time", 100 * waiting, "< 2"),
    ]


def speed(kind: type[Watched], shards: ShardSet, settings: Train, seed: int) -> tuple[float, float]:
    """One short run in a folder that is thrown away."""
    new = over(shards, settings, seed, State(0, 0), ALONE)
    steps, _ = loop.planned_steps(len(new.stream), settings)
    parts = settings.optim.accumulate
    watched = kind(new.stream, steps * parts)
    with tempfile.TemporaryDirectory() as temporary:
        job = Job(settings, seed, Path(temporary) / "run", torch.device("cpu"))
        loop.train(job, new.model, watched, None, State(0, 0))
    new.stream.close()
    return watched.speed(WARM_UP * parts)


if __name__ == "__main__":
    main()
