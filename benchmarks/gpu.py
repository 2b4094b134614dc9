"""What reaches a GPU: bytes beside a bare pinned copy, and pictures a second of training on them.

    python -m benchmarks.gpu

ViT-B's 197 × 768 and ESAM's 256 × 256 float16 a picture, page cache warm. Where there is no CUDA device
it ends at once and writes nothing.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import report, stream_sets
from benchmarks.report import Figure, figure
from training import run
from training.batch import Batch
from training.config import Masking, Model, Train
from training.forecast import batch_bytes, moved_bytes
from training.shards import ShardSet, open_shards
from training.stream import Stream

SET = stream_sets.SIZES["440 KB"]
DEVICE = torch.device("cuda")
LOADED, LEARNED = 64, 1024  # pictures of a batch that is only copied, and of one that is trained on
ROUNDS = 3  # the fastest counts
COPIES, STEPS = 100, 20
MASKED = Masking(ratio=0.75)
SETTINGS = Train(
    inputs={"grid": "vit", "pixel": "esam"}, model=Model(hidden=768, heads=12), precision="bfloat16"
)


def main() -> None:
    """Measure, print, write."""
    argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__).parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device here: nothing was measured")
    with tempfile.TemporaryDirectory() as name:
        stream_sets.build(Path(name), SET)
        shards = open_shards([f"{name}/data"], columns=list(SET.columns))
        report.write("gpu", [*delivered(shards), *trained(shards)])


def delivered(shards: ShardSet) -> list[Figure]:
    """Gigabytes a second into the device's memory."""
    first = next(iter(loaded(shards, Masking())))
    bare = max(copied(batch_bytes(first)) for _ in range(ROUNDS)) / 1e9
    ours = fastest(lambda: loaded(shards, Masking()).on(DEVICE)) * batch_bytes(first) / 1e9
    masked = fastest(lambda: loaded(shards, MASKED).on(DEVICE)) * LOADED
    share = moved_bytes(next(iter(loaded(shards, MASKED))), MASKED) / batch_bytes(first)
    return [
        figure("bare pinned copies, GB/s", bare),
        figure("delivered, GB/s", ours),
        figure("delivered / bare copies", ours / bare, "> 0.8"),
        figure("delivered, pictures/s", ours * 1e9 / batch_bytes(first) * LOADED),
        figure(
            "delivered where 3 of 4 tokens are dropped, pictures/s",
            masked,
            against=f"{share:.0%} of the bytes",
        ),
    ]


def loaded(shards: ShardSet, mask: Masking) -> Stream:
    """An epoch in whole batches."""
    rows = SET.samples // LOADED * LOADED
    return Stream(shards, ["vqa"], batch=LOADED, mask=mask, threads=8, ahead=4, stop=rows)


def copied(size: int) -> float:
    """Bytes a second from one pinned buffer."""
    source = torch.empty(size, dtype=torch.uint8, pin_memory=True)
    target = torch.empty_like(source, device=DEVICE)
    target.copy_(source, non_blocking=True)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(COPIES):
        target.copy_(source, non_blocking=True)
    torch.cuda.synchronize()
    return COPIES * size / (time.perf_counter() - started)


def fastest(begin: Callable[[], Iterator[Batch]]) -> float:
    """Batches a second, from the first on."""
    best = 0.0
    for _ in range(ROUNDS):
        batches = begin()
        next(batches)
        started, count = time.perf_counter(), sum(1 for _ in batches)
        torch.cuda.synchronize()
        best = max(best, count / (time.perf_counter() - started))
    return best


def trained(shards: ShardSet) -> list[Figure]:
    """Pictures a second of forward and backward passes in bf16."""
    model = run.build_model(SETTINGS, shards.features, shards.tokenizer, len(shards.answers)).to(DEVICE)
    batches = Stream(shards, ["vqa"], batch=LEARNED, threads=8)
    moved = batches.on(DEVICE)
    batch = next(moved)
    with FlopCounterMode(display=False) as counter:
        step(model, batch)
    plain = speed(model, islice(cycle([batch]), STEPS))
    compiled = speed(torch.compile(model), islice(cycle([batch]), STEPS))
    waited, started = batches.waited, time.perf_counter()
    read = speed(model, islice(moved, STEPS))
    waiting = (batches.waited - waited) / (time.perf_counter() - started)
    flops = counter.get_total_flops() / LEARNED / 1e12
    return [
        figure("trained, one batch in memory, pictures/s", plain),
        figure("the same, TFLOP/s", plain * flops),
        figure("the same, compiled, pictures/s", compiled),
        figure("trained from shards, pictures/s", read),
        figure("trained from shards, waiting, %", 100 * waiting, "< 2"),
    ]


def speed(model: Callable[..., object], batches: Iterator[Batch]) -> float:
    """Pictures a second, after the first steps."""
    for batch in islice(batches, 3):
        step(model, batch)
    torch.cuda.synchronize()
    started, pictures = time.perf_counter(), 0
    for batch in batches:
        step(model, batch)
        pictures += len(batch.keys)
    torch.cuda.synchronize()
    return pictures / (time.perf_counter() - started)


def step(model: Callable[..., object], batch: Batch) -> None:
    """Forward and backward."""
    with torch.autocast("cuda", torch.bfloat16):
        outcomes = model(batch)
    outcomes["vqa"].loss.backward()


if __name__ == "__main__":
    main()
