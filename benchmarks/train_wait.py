"""How long a training run stands still for data, and its speed against one batch held in memory.

    make demo && python -m benchmarks.train_wait

The loop of training.fit with the settings of params.yaml, over the demo's shards: in turns from the stream
and with the same batches held in memory, read beforehand. The same and not one again and again, for a step
costs by how many texts it has and how long they are.
"""

import argparse
import tempfile
import time
from collections.abc import Generator
from itertools import islice
from pathlib import Path

import torch
from msgspec import structs

from benchmarks import report
from benchmarks.report import Figure, figure
from training import run
from training.batch import Batch
from training.config import Train
from training.optimizing import loop
from training.optimizing.checkpoint import State
from training.optimizing.job import Job
from training.settings import load
from training.shards import ShardSet, open_shards
from training.stream import Stream

ROUNDS = 3
WARM_UP = 10  # steps that are not counted


class Watched(Stream):
    """Notes when each batch is handed over, with its texts, and how long was waited by then."""

    steps: int

    def on(self, device: torch.device) -> Generator[Batch, None, None]:
        self.notes: list[tuple[float, int, float]] = []
        for batch in self.source(device):
            self.notes.append((time.perf_counter(), len(batch.text_id), self.waited))
            yield batch

    def source(self, device: torch.device) -> Generator[Batch, None, None]:
        return super().on(device)

    def speed(self) -> tuple[float, float]:
        """(texts a second, share of the time that was spent waiting), after the warm-up."""
        notes = self.notes[WARM_UP:]
        seconds = notes[-1][0] - notes[0][0]
        return sum(texts for _, texts, _ in notes[:-1]) / seconds, (notes[-1][2] - notes[0][2]) / seconds


class Held(Watched):
    """The same batches, all read before the first is handed over."""

    def source(self, device: torch.device) -> Generator[Batch, None, None]:
        batches = super().source(device)
        held = list(islice(batches, self.steps))
        batches.close()
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
    report.write("train_wait", figures(shards, settings, seed, options.steps))


def figures(shards: ShardSet, settings: Train, seed: int, steps: int) -> list[Figure]:
    """Rounds of both, in turns."""
    rounds = [[speed(kind, shards, settings, seed, steps) for kind in (Watched, Held)] for _ in range(ROUNDS)]
    streamed, waiting = max(of[0] for of in rounds)
    held, _ = max(of[1] for of in rounds)
    return [
        figure("the same batches held in memory, texts/s", held),
        figure("training from shards, texts/s", streamed),
        figure("training from shards, share of that speed", streamed / held, "> 0.95"),
        figure("waiting for data, % of the time", 100 * waiting, "< 2"),
    ]


def speed(
    kind: type[Watched], shards: ShardSet, settings: Train, seed: int, steps: int
) -> tuple[float, float]:
    """One short run in a folder that is thrown away."""
    stream = kind(
        shards,
        list(settings.tasks.chosen),
        batch=settings.optim.batch,
        seed=seed,
        mask=settings.masking,
        max_tokens=settings.model.max_tokens,
        threads=settings.threads,
        ahead=settings.ahead,
    )
    stream.steps = steps
    epochs = steps * settings.optim.batch / len(stream)
    settings = structs.replace(settings, optim=structs.replace(settings.optim, epochs=epochs))
    torch.manual_seed(seed)
    model = run.build_model(settings, shards.features, shards.tokenizer, len(shards.answers))
    with tempfile.TemporaryDirectory() as temporary:
        job = Job(settings, seed, Path(temporary) / "run", torch.device("cpu"))
        loop.train(job, model, stream, None, State(0, 0))
    stream.close()
    return stream.speed()


if __name__ == "__main__":
    main()
