"""The stream against raw reads and against other loaders, on the same samples in one run, page cache warm.

    make bench-env && python -m benchmarks.stream

Samples of 20 KB, 440 KB and 2.6 MB are generated; every peer reads them in the format that its own writer
makes, in batches as large as ours and at 0, 1 and 2 workers. All take turns, and the better of two rounds
counts. Raw is `readinto` of our files into one buffer of a sample's size, one thread. Ours checks every byte
and decodes, checks and collates the records; the peers decode them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks import report
from benchmarks.report import FOLDER, Figure, figure
from benchmarks.stream_sets import SIZES, Size, build
from contract.files import write_atomic

ROOT = Path(__file__).parents[1]
PEER_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
PEERS = ("LitData", "MosaicML", "webdataset")
WORKERS, THREADS, ORDERS = (0, 1, 2), (1, 2, 4), ("global", "window")
BATCHES = {"20 KB": 64, "440 KB": 64, "2.6 MB": 16}
OURS, RAW = "Fuseline", "raw"
LIMIT = 90  # seconds of one process
ROUNDS = 2  # of all readers in turns: a shared machine is slow at times
MEMORY_OF = "440 KB"  # the set of which start and memory are told
AHEAD_MB, ALLOWED_MB = 2 * 64 * 0.441, 200


class Measured(Struct, forbid_unknown_fields=True):
    """One reader at one setting. error: why there is no number."""

    size: str
    reader: str
    setting: str
    rate: float = 0.0  # samples a second
    first_batch: float = 0.0  # seconds
    grown_mb: float = 0.0
    grown_after_an_epoch_mb: float = 0.0
    error: str = ""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.stream",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--seconds", type=float, default=2.0, help="of reading at each setting (default: 2)")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS)
    options = parser.parse_args()
    rows, figures = [], []
    for name in options.sizes:
        with tempfile.TemporaryDirectory() as temporary:
            of_size, start = measure(SIZES[name], Path(temporary), options.peers, options.seconds)
        rows += of_size
        figures += [*speeds(name, of_size), *start]
    results = report.write("stream", figures)
    write_atomic(FOLDER / "stream_readers.json", msgspec.json.format(msgspec.json.encode(rows), indent=1))
    write_atomic(FOLDER / "stream.md", page(results, rows))
    subprocess.run([PEER_PYTHON, ROOT / "benchmarks" / "stream_plot.py"], check=True)


def measure(
    size: Size, folder: Path, peers: list[str], seconds: float
) -> tuple[list[Measured], list[Figure]]:
    """Every reader over one set, and what a start costs."""
    own = folder / "own"
    build(own, size)
    rows = []
    runs = [*ours(own, seconds)]
    for peer in peers:
        try:
            written(peer, own, folder / peer)
        except RuntimeError as error:
            rows.append(Measured(size.name, peer, "cannot write the set", error=str(error)))
        else:
            runs += theirs(peer, folder / peer, seconds)
    rounds = [[raw(size, own), *(measured(size, run) for run in runs)] for _ in range(ROUNDS)]
    rows += [max(same, key=lambda row: row.rate) for same in zip(*rounds, strict=True)]
    return rows, starts(size, own) if size.name == MEMORY_OF else []


def raw(size: Size, folder: Path) -> Measured:
    """Every file of a set once, the best of three passes."""
    files, buffer = sorted(folder.rglob("*.tar")), memoryview(bytearray(sample_bytes(size)))
    best = min(pass_over(files, buffer) for _ in range(3))
    return Measured(size.name, RAW, "1 thread", size.samples / best)


def pass_over(files: list[Path], buffer: memoryview) -> float:
    """Seconds of reading the files."""
    started = time.perf_counter()
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.perf_counter() - started


def sample_bytes(size: Size) -> int:
    """Of the features of one sample."""
    return sum(2 * tokens * width for tokens, width in (made.shape for made in size.columns.values()))


class Run(Struct):
    """A reader at one setting, in a process of its own that prints what `Measured` holds."""

    reader: str
    setting: str
    command: list[str]


def written(peer: str, own: Path, folder: Path) -> None:
    """The set in a peer's format."""
    execute([str(PEER_PYTHON), str(ROOT / "benchmarks" / "peers.py"), "write", peer, str(own), str(folder)])


def theirs(peer: str, folder: Path, seconds: float) -> list[Run]:
    """A peer at each number of workers."""
    command = [str(PEER_PYTHON), str(ROOT / "benchmarks" / "peers.py"), "read", peer, str(folder)]
    return [
        Run(peer, f"{workers} workers", [*command, f"--workers={workers}", f"--seconds={seconds}"])
        for workers in WORKERS
    ]


def ours(folder: Path, seconds: float) -> list[Run]:
    """The stream in each order, at each number of threads."""
    return [
        our_run(folder, f"{threads} threads, {order}", threads=threads, order=order, seconds=seconds)
        for order in ORDERS
        for threads in THREADS
    ]


def our_run(folder: Path, setting: str, **options: object) -> Run:
    """The stream once."""
    said = [f"--{name}={value}" for name, value in options.items()]
    return Run(OURS, setting, [sys.executable, "-m", "benchmarks.stream_ours", str(folder), *said])


def measured(size: Size, run: Run) -> Measured:
    """What a process measured, or why it did not."""
    try:
        printed = execute([*run.command, f"--batch={BATCHES[size.name]}"])
    except RuntimeError as error:
        return Measured(size.name, run.reader, run.setting, error=str(error))
    return Measured(size.name, run.reader, run.setting, **json.loads(printed.splitlines()[-1]))


def execute(command: list[str]) -> str:
    """What a process printed; RuntimeError with its last line if it failed or took too long."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(str(error)) from None
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or "failed").splitlines()[-1])
    return done.stdout


def starts(size: Size, own: Path) -> list[Figure]:
    """The wait for a first batch at the beginning, in the middle of an epoch and without indexes; memory."""
    bare = own.with_name("bare")
    copy_without_indexes(own, bare)
    middle = size.samples // 2 // BATCHES[size.name] * BATCHES[size.name]
    start, later, unindexed = (
        best_wait(size, own),
        best_wait(size, own, position=middle),
        best_wait(size, bare),
    )
    memory = measured(size, our_run(own, "memory", epochs=3, seconds=0))
    files = f"{len(list(own.rglob('*.tar')))} tars, {len(list((own / 'data').glob('*.tar')))} of them records"
    beyond = memory.grown_mb - AHEAD_MB
    return [
        figure("first batch, seconds", start, "< 0.3", files),
        figure("first batch without an index, seconds", unindexed, "< 2", files),
        figure("first batch in the middle of an epoch, seconds", later, "< 0.3"),
        figure("memory beyond the batches ahead, MB", beyond, f"< {ALLOWED_MB}", "3 epochs, 2 threads"),
        figure("memory that the second and third epoch add, MB", memory.grown_after_an_epoch_mb, "< 10"),
    ]


def best_wait(size: Size, folder: Path, **options: object) -> float:
    """Of three starts."""
    start = our_run(folder, "start", seconds=0, **options)
    return min(measured(size, start).first_batch for _ in range(3))


def copy_without_indexes(own: Path, bare: Path) -> None:
    """The same files under other names, but for the indexes."""
    for path in own.rglob("*"):
        target = bare / path.relative_to(own)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and path.suffix != ".idx":
            os.link(path, target)


def speeds(name: str, rows: list[Measured]) -> list[Figure]:
    """What the issue asks of one size."""
    best = {
        reader: max((row.rate for row in rows if row.reader == reader), default=0.0)
        for reader in {row.reader for row in rows}
    }
    whole = max(row.rate for row in rows if row.reader == OURS and row.setting.endswith("global"))
    peers = {reader: rate for reader, rate in best.items() if reader in PEERS and rate}
    goals = {"20 KB": "> 2", "440 KB": "> 2.5", "2.6 MB": "> 2"}
    made = [
        figure(f"{name}: raw, samples/s", best[RAW]),
        figure(f"{name}: ours in global random order, samples/s", whole, against="its best threads"),
        figure(f"{name}: ours, share of raw", whole / best[RAW], "> 0.6" if name == MEMORY_OF else ""),
    ]
    if peers:
        peer = max(peers, key=lambda reader: peers[reader])
        made.append(figure(f"{name}: ours, times the best peer", whole / peers[peer], goals[name], peer))
    if "webdataset" in peers and name == MEMORY_OF:
        made.append(figure(f"{name}: ours, times webdataset", whole / peers["webdataset"], "> 10"))
    return made


def page(results: report.Results, rows: list[Measured]) -> str:
    """benchmarks/results/stream.md."""
    lines = [
        "# The stream against other loaders\n",
        "`python -m benchmarks.stream`: one run, one set, page cache warm; ours checks every byte.\n",
        report.markdown(results),
        "| samples of | reader | setting | samples/s | of raw | first batch, s | memory, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    fastest = {row.size: max(r.rate for r in rows if (r.size, r.reader) == (row.size, RAW)) for row in rows}
    return "\n".join([*lines, *(line(row, fastest[row.size]) for row in rows)]) + "\n"


def line(row: Measured, fastest: float) -> str:
    """A row of the table."""
    head = f"| {row.size} | {row.reader} | {row.setting} |"
    if row.error:
        return f"{head} {row.error} | | | |"
    of_raw = f"{head} {row.rate:,.0f} | {row.rate / fastest:.2f} |"
    return of_raw + (" | |" if row.reader == RAW else f" {row.first_batch:.2f} | {row.grown_mb:,.0f} |")


if __name__ == "__main__":
    main()
