"""Runs that are killed over and over, each time going on by --resume: do they end like one left alone?

    python -m benchmarks.soak --minutes 10

A run trains with all that draws or remembers something: masks, dropout, accumulated parts, a running mean of
the weights. Half of the kills (SIGKILL) come after a random time, half while a checkpoint is written. Each
new process is forked from one that has imported everything, so that the time goes into training.
"""

import argparse
import hashlib
import multiprocessing
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
import torch
from msgspec import Struct

from benchmarks import report, stream_sets
from benchmarks.report import Figure, figure
from benchmarks.stream_sets import Size, Width
from contract.errors import run_command
from contract.seeds import rng
from training import fit
from training.optimizing import checkpoint

SET = Size("soak", 400, {"vit": Width(6, True, 64), "esam": Width(8, False, 32)})
PARAMS = """\
seed: 5
train:
  inputs: {grid: vit, pixel: esam}
  model: {hidden: 128, heads: 4, text_layers: 2, head_layers: 2, dropout: 0.1}
  masking: {kind: block, ratio: 0.3, ratio_end: 0.7}
  optim: {epochs: 12, batch: 16, accumulate: 2, ema: 0.99}
  development: 0.1
  log_every: 1
  checkpoint_every: 3
"""
LONGEST = 1 / 12  # of the time of a run left alone: what a process has at most before a kill at random
WRITES = 5  # at most, of which the last is the one that a kill goes into
WRITING = 0.06  # seconds after a checkpoint's first byte within which that kill comes
POLL = 0.0005  # seconds
FORKS = multiprocessing.get_context("forkserver")


class Tally(Struct):
    """What was done to the runs, and what became of them. writing: kills that left a file by half."""

    kills: int = 0
    writing: int = 0
    runs: int = 0
    differing: int = 0


def main() -> None:
    """Soak, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="after which no run is killed any more")
    parser.add_argument("--kills", type=int, default=100, help="after which none is either")
    options = parser.parse_args()
    FORKS.set_forkserver_preload(["training.fit"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stream_sets.build(folder, SET)
        (folder / "params.yaml").write_text(PARAMS)
        started = time.perf_counter()
        wanted = ended(folder, "whole", lambda _process, _run: None, Tally())
        alone = time.perf_counter() - started
        print(f"left alone a run takes {alone:.0f} s")
        tally = soak(folder, wanted, options.kills, 60 * options.minutes, alone * LONGEST)
    report.write("soak", figures(tally, options.kills, alone))
    sys.exit(bool(tally.differing))


def soak(folder: Path, wanted: str, kills: int, seconds: float, longest: float) -> Tally:
    """Runs one after another until there were so many kills, or so much time has passed."""
    tally, random, end = Tally(), rng("soak"), time.perf_counter() + seconds

    def more() -> bool:
        return tally.kills < kills and time.perf_counter() < end

    def struck(process: ForkServerProcess, run: Path) -> None:
        if more():
            strike(process, run, random, longest)

    while more():
        found = ended(folder, f"run-{tally.runs}", struck, tally)
        tally.runs += 1
        tally.differing += found != wanted
        print(
            f"{tally.kills} kills, {tally.writing} in a write: {tally.differing} of {tally.runs} runs differ"
        )
    return tally


def ended(folder: Path, name: str, strike: Callable[[ForkServerProcess, Path], None], tally: Tally) -> str:
    """The digest of a run that goes on, however often it is struck, until it ends by itself."""
    run = folder / "runs" / name
    while True:
        before = halves(run)
        process = FORKS.Process(target=train, args=(folder, run))
        process.start()
        strike(process, run)
        process.join()
        if process.exitcode != -signal.SIGKILL:
            break
        tally.kills += 1
        tally.writing += bool(halves(run) - before)
    if process.exitcode:
        raise SystemExit(f"a run ended with status {process.exitcode}:\n{log(run).read_text()}")
    return digest(run)


def halves(run: Path) -> set[tuple[str, int]]:
    """What stands half written among the checkpoints, and since when."""
    return {(path.name, path.stat().st_mtime_ns) for path in (run / "checkpoints").glob(".*.part")}


def train(folder: Path, run: Path) -> None:
    """The command line, its words in a file. On one thread: the other core is the killer's."""
    torch.set_num_threads(1)
    run.parent.mkdir(exist_ok=True)
    sys.stdout = sys.stderr = log(run).open("w")
    shards, settings = str(folder / "data"), str(folder / "params.yaml")
    command = ["--resume", "auto", "--run", str(run), "--shards", shards, "--params", settings]
    run_command(lambda: fit.main([*command, "--device", "cpu"]))


def log(run: Path) -> Path:
    """Beside the run's folder, which it makes itself."""
    return run.with_suffix(".log")


def strike(process: ForkServerProcess, run: Path, random: np.random.Generator, longest: float) -> None:
    """Kill a process, unless it ends before."""
    if random.integers(2):
        await_write(process, run / "checkpoints", int(random.integers(1, WRITES + 1)))
        process.join(random.uniform(0, WRITING))
    else:
        process.join(random.uniform(0, longest))
    process.kill()


def await_write(process: ForkServerProcess, checkpoints: Path, number: int) -> None:
    """Wait until the process writes its checkpoint of that number, or ends."""
    seen: set[str] = set()
    while len(seen) < number and process.is_alive():
        seen |= {path.name for path in checkpoints.glob(".step-*.part")}
        time.sleep(POLL)


def digest(run: Path) -> str:
    """Of all weights, moments and means of the last checkpoint, and of every line of the log."""
    found = hashlib.sha256()
    last = checkpoint.find(run, "last")
    for path in [*sorted(last.iterdir()), *sorted((run / "plots").rglob("*.tsv"))]:
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


def figures(tally: Tally, kills: int, alone: float) -> list[Figure]:
    """As they are written."""
    return [
        figure("SIGKILLs", tally.kills, f"> {kills - 1}"),
        figure("of them while a checkpoint was written", tally.writing),
        figure("runs", tally.runs, against=f"each {alone:.0f} s if left alone"),
        figure("runs that ended otherwise than the one left alone", tally.differing, "< 1", "bytes"),
    ]


if __name__ == "__main__":
    main()
