"""What reaches a GPU: bytes beside a bare pinned copy, pictures a second of training on them and their
share of what it can do, and a contrast of thousands of pictures by gradient caching.

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
from msgspec import Struct
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import contrast, report, stream_sets
from benchmarks.report import Figure, figure
from training import run
from training.batch import Batch
from training.config import Masking, Model, Train
from training.forecast import batch_bytes, moved_bytes
from training.model.compiling import compile_parts
from training.model.model import FusionModel
from training.optimizing import device
from training.shards import ShardSet, open_shards
from training.stream import Stream

SET = stream_sets.SIZES["440 KB"]
DEVICE = torch.device("cuda")
LOADED = 64  # pictures of a batch that is only copied
ROUNDS = 3  # the fastest counts
COPIES, WARM_UP = 100, 3
EQUAL_PARTS = 8
MASKED = Masking(ratio=0.75)
SETTINGS = Train(
    inputs={"grid": "vit", "pixel": "esam"}, model=Model(hidden=768, heads=12), precision="bfloat16"
)


class Sizes(Struct, frozen=True):
    """learned: pictures of a batch that is trained on; steps: that are timed; side: of the square matrices
    whose product says what the device can do; contrasted: pictures of a cached contrast, in parts of
    `learned`; equal: of the one that is held against a plain batch.
    """

    learned: int
    steps: int
    side: int
    contrasted: int
    equal: int


SIZES = Sizes(learned=1024, steps=20, side=8192, contrasted=16_384, equal=512)


def main() -> None:
    """Measure, print, write."""
    argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__).parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device here: nothing was measured")
    with tempfile.TemporaryDirectory() as name:
        stream_sets.build(Path(name), SET)
        shards = open_shards([f"{name}/data"], columns=list(SET.columns))
        figures = delivered(shards)
        figures += trained(shards, SETTINGS, SIZES, DEVICE)
        torch.cuda.reset_peak_memory_stats()
        report.write("gpu", figures + contrasted(shards, SETTINGS, SIZES, DEVICE))


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


def trained(shards: ShardSet, settings: Train, sizes: Sizes, where: torch.device) -> list[Figure]:
    """Pictures a second of forward and backward passes in bf16, and their share of what the device can do."""
    model = run.build_model(settings, shards.features, shards.tokenizer, len(shards.answers)).to(where)
    batches = Stream(shards, ["vqa"], batch=sizes.learned, threads=8)
    moved = batches.on(where)
    batch = next(moved)
    with FlopCounterMode(display=False) as counter:
        step(model, batch, where)
    flops, peak = counter.get_total_flops() / sizes.learned / 1e12, product(sizes.side, sizes.steps, where)
    plain = speed(model, islice(cycle([batch]), WARM_UP + sizes.steps), where)
    waited, started = batches.waited, time.perf_counter()
    read = speed(model, islice(moved, WARM_UP + sizes.steps), where)
    waiting = (batches.waited - waited) / (time.perf_counter() - started)
    moved.close()
    compile_parts(model)
    compiled = speed(model, islice(cycle([batch]), WARM_UP + sizes.steps), where)
    return [
        figure(f"bf16 product of two {sizes.side}² matrices, TFLOP/s", peak),
        figure("trained, one batch in memory, pictures/s", plain),
        figure("the same, TFLOP/s", plain * flops),
        figure("the same, % of that product", 100 * plain * flops / peak),
        figure("the same, compiled as by model.compile, pictures/s", compiled),
        figure("the same, compiled, % of that product", 100 * compiled * flops / peak),
        figure("trained from shards, pictures/s", read),
        figure("trained from shards, waiting, %", 100 * waiting, "< 2"),
    ]


def product(side: int, times: int, where: torch.device) -> float:
    """TFLOP/s of a bf16 matrix product [side, side] · [side, side]."""
    left, right = (torch.randn(side, side, device=where).bfloat16() for _ in range(2))
    left @ right
    wait(where)
    started = time.perf_counter()
    for _ in range(times):
        left @ right
    wait(where)
    return times * 2 * side**3 / (time.perf_counter() - started) / 1e12


def speed(model: FusionModel, batches: Iterator[Batch], where: torch.device) -> float:
    """Pictures a second, after the first steps."""
    for batch in islice(batches, WARM_UP):
        step(model, batch, where)
    wait(where)
    started, pictures = time.perf_counter(), 0
    for batch in batches:
        step(model, batch, where)
        pictures += len(batch.keys)
    wait(where)
    return pictures / (time.perf_counter() - started)


def step(model: FusionModel, batch: Batch, where: torch.device) -> None:
    """Forward and backward."""
    with device.autocast(where, "bfloat16"):
        outcomes = model(batch)
    outcomes["vqa"].loss.backward()


def wait(where: torch.device) -> None:
    """Until the device has done what it was given."""
    if where.type == "cuda":
        torch.cuda.synchronize()


def contrasted(shards: ShardSet, settings: Train, sizes: Sizes, where: torch.device) -> list[Figure]:
    """A step over many pictures by gradient caching, in parts of `learned`; how exact one over fewer is."""
    count = sizes.contrasted // sizes.learned
    known = contrast.settings(settings, sizes.contrasted, count)
    model, given = contrast.made(known, shards, where), contrast.parts(shards, sizes.contrasted, count)
    contrast.take(model, known, given, where)
    wait(where)
    started = time.perf_counter()
    contrast.take(model, known, given, where)
    wait(where)
    seconds, peak = time.perf_counter() - started, most(where)
    loss, gradient = contrast.difference(settings, shards, sizes.equal, EQUAL_PARTS, where)
    what = f"contrast of {sizes.contrasted:,} in {count} parts"
    exact = f"contrast of {sizes.equal} in {EQUAL_PARTS} parts beside one plain batch"
    return [
        figure(f"{what}, seconds a step", seconds),
        figure(f"{what}, peak memory, GiB", peak),
        figure(f"{exact}: loss, millionths", 1e6 * loss, "< 10"),
        figure(f"{exact}: gradient, millionths", 1e6 * gradient, "< 100"),
    ]


def most(where: torch.device) -> float:
    """GiB of the device's memory that were in use at once so far; 0 where there is no device to ask."""
    return torch.cuda.max_memory_allocated() / 2**30 if where.type == "cuda" else 0.0


if __name__ == "__main__":
    main()
