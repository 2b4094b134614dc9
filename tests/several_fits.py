"""Several runs of training.fit one after another in one process, which torchrun starts: starting costs most.

    torchrun --nproc-per-node 2 tests/several_fits.py '[["--run", "a"], ["--resume", "b", "STOP=5"]]'

STOP=5: the last process is asked to end by SIGTERM as it begins the step of this number, counted from 0.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from contract.errors import run_command
from training import distributed, fit
from training.distributed import World
from training.optimizing import loop

STOP = "STOP="


@contextmanager
def asked_to_end(step: int) -> Iterator[None]:
    """SIGTERM to this process as it begins a step."""
    known = loop.learning_rate

    def rate(at: int, *rest: object) -> float:
        if at == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return known(at, *rest)  # type: ignore[arg-type]

    loop.learning_rate = rate  # type: ignore[assignment]
    try:
        yield
    finally:
        loop.learning_rate = known


def main(runs: list[list[str]]) -> int:
    """The status of the last. Processes find each other once: torch cannot do so twice with one store."""
    world = distributed.find()
    with distributed.joined(world, torch.device("cpu")):
        known, distributed.joined = distributed.joined, lambda *_: nullcontext()  # type: ignore[assignment]
        try:
            return _each(runs, world)
        finally:
            distributed.joined = known


def _each(runs: list[list[str]], world: World) -> int:
    status = 0
    for arguments in runs:
        stops = [int(word.removeprefix(STOP)) for word in arguments if word.startswith(STOP)]
        here = stops[0] if stops and world.rank == world.size - 1 else -1
        with asked_to_end(here):
            status = fit.main([word for word in arguments if not word.startswith(STOP)])
    return status


if __name__ == "__main__":
    run_command(lambda: main(json.loads(sys.argv[1])))
