"""Where the time and the memory of a training step go, by preset, without the reading.

Batches are the first of the shards named by --shards (after `make demo`), at the demo's sizes or with ViT-B
features and a model as wide put in their place; at those sizes only the presets run whose step takes seconds.
Each preset runs in a process of its own with one thread: its peak of resident memory, its steps' time
(median), and by torch.profiler the share of it outside matrix products and attention. What a step with
`gated` fusion costs more than one with `none` is taken from steps that alternate (minima), and its share of
their floating-point operations is counted beside it.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import count, cycle, islice
from pathlib import Path
from statistics import median

import msgspec
import torch
from msgspec import Struct, structs
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import report
from benchmarks.report import Figure, figure
from contract.manifest import FeatureManifest
from training import preset, run
from training.batch import Batch
from training.config import TEXT, Fusion, Train
from training.distributed import ALONE
from training.model.model import FusionModel
from training.optimizing import freed_memory, optim, step
from training.optimizing.checkpoint import Sums
from training.optimizing.step import StepContext
from training.optimizing.tally import tally
from training.settings import load
from training.shards import open_shards
from training.starting.streams import needs
from training.stream import Stream

CPU = torch.device("cpu")
WARMUP, STEPS, BATCHES, TURNS = 1, 3, 2, 6
COMPARED = "vqa"  # the preset whose fusions are compared
FUSED = {
    "two columns": {"grid": "vit", "pixel": "esam"},
    "a column and the text": {"grid": "vit", "words": TEXT},
}
VIT_B = {"grid": {"grid": 14, "cls": True, "width": 768}, "pixel": {"grid": 16, "cls": False, "width": 256}}
LARGE = ["model.hidden=768", "model.heads=12", "optim.batch=16", "optim.accumulate=1", "development=0"]
SIZES: dict[str, list[str]] = {"demo": ["development=0"], "vit_b": LARGE}
QUICK = {"vqa", "region"}  # presets that are measured at ViT-B's sizes too
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::_scaled_dot_product")
SHOWN = 5  # operators of the printed profile


class Measured(Struct):
    """Of one preset at one size. seconds: of a step; outside: share of it that is no product nor attention;
    largest: operator → share, of those outside; megabytes: peak of the process; gated: what is fused → its
    share of a step's time and of its operations.
    """

    seconds: float
    outside: float
    largest: dict[str, float]
    megabytes: float
    gated: dict[str, tuple[float, float]] = {}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=__doc__)
    parser.add_argument("--shards", default="data", help="folder of the demo's shards (default: data)")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=SIZES)
    parser.add_argument("--presets", nargs="+", default=preset.names())
    parser.add_argument("--one", action="store_true", help="in this process, for the first of both; as JSON")
    options = parser.parse_args()
    if options.one:
        found = measure(options.presets[0], options.sizes[0], options.shards)
        sys.stdout.buffer.write(msgspec.json.encode(found))
        return
    figures: list[Figure] = []
    for size in options.sizes:
        for name in options.presets if size == "demo" else set(options.presets) & QUICK:
            figures += described(name, size, apart(name, size, options.shards))
    report.write("step", figures)


def apart(name: str, size: str, shards: str) -> Measured:
    """The same in a process of its own, so that its peak of memory is its own too."""
    command = [sys.executable, "-m", "benchmarks.step", "--one", "--presets", name]
    command += ["--sizes", size, "--shards", shards]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}, {size}: {done.stderr.decode()}")
    return msgspec.json.decode(done.stdout, type=Measured)


def described(name: str, size: str, found: Measured) -> list[Figure]:
    """The rows of the table."""
    what = f"{name} at {size}'s sizes"
    largest = ", ".join(f"{operator} {100 * share:.0f}" for operator, share in found.largest.items())
    rows = [
        figure(f"{what}: ms a step", 1000 * found.seconds),
        figure(f"{what}: % outside products and attention", 100 * found.outside, "< 15", largest),
        figure(f"{what}: peak memory, MB", found.megabytes),
    ]
    for fused, (taken, counted) in found.gated.items():
        against = f"{100 * counted:.1f} % of the step's operations"
        rows.append(figure(f"{what}: % of a step for `gated` of {fused}", 100 * taken, "< 10", against))
    return rows


def measure(name: str, size: str, shards: str) -> Measured:
    """Steps of one preset in this process."""
    torch.set_num_threads(1)
    freed_memory.keep()
    settings, _ = load(Path("params.yaml"), SIZES[size], preset.load(name))
    shapes, batches = inputs(settings, size == "vit_b", shards)
    take = stepper(made(settings, shapes, shards), settings)
    repeated = cycle(batches)
    for _ in range(WARMUP):
        take(next(repeated))
    seconds = median(timed(take, next(repeated)) for _ in range(STEPS))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    outside, largest = profiled(take, batches)
    gated = {
        fused: gated_share(structs.replace(settings, inputs=named), shapes, batches, shards)
        for fused, named in FUSED.items()
        if name == COMPARED
    }
    return Measured(seconds, outside, largest, peak, gated)


def inputs(settings: Train, large: bool, folder: str) -> tuple[dict[str, FeatureManifest], list[Batch]]:
    """The columns' shapes and the first batches, as the preset reads them."""
    shards = open_shards([folder], settings.columns)
    tasks = settings.tasks
    stream = Stream(
        shards,
        needs(tasks),
        batch=settings.optim.batch,
        mask=settings.masking,
        max_tokens=settings.model.max_tokens,
        negatives=tasks.mined,
        swaps=tasks.swapped,
        near_texts=tasks.near_texts,
        named=bool(tasks.itm and tasks.itm.sources.masked),
        text_negatives=tasks.region.negatives if tasks.region else 0,
    )
    batches = list(islice(stream, BATCHES))
    stream.close()
    if not large:
        return shards.features, batches
    shapes = {
        name: structs.replace(shards.features[name], **VIT_B[role]) for role, name in settings.inputs.items()
    }
    return shapes, [enlarged(batch, shapes) for batch in batches]


def enlarged(batch: Batch, shapes: dict[str, FeatureManifest]) -> Batch:
    """The same texts, boxes and pictures with features of other shapes, nothing hidden."""
    sizes = {name: (len(batch.keys), known.tokens) for name, known in shapes.items()}
    return replace(
        batch,
        features={name: torch.randn(*size, shapes[name].width).half() for name, size in sizes.items()},
        visible={name: torch.ones(size, dtype=torch.bool) for name, size in sizes.items()},
        hidden={name: torch.zeros(size, dtype=torch.bool) for name, size in sizes.items()},
    )


def made(settings: Train, shapes: dict[str, FeatureManifest], folder: str) -> FusionModel:
    """The preset's model with fresh weights."""
    shards = open_shards([folder], [])
    return run.build_model(settings, shapes, shards.tokenizer, len(shards.answers))


def stepper(model: FusionModel, settings: Train) -> Callable[[Batch], None]:
    """An optimizer step, as the loop takes it."""
    optimizer, number = optim.build(model, settings.optim), count()

    def take(batch: Batch) -> None:
        context = StepContext(next(number), 10_000, 0, False, tally({0: batch}, settings, False, ALONE))
        step.backward(model, {0: batch}, settings, context, CPU, Sums())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        model.limit_scales()

    return take


def timed(take: Callable[[Batch], None], batch: Batch) -> float:
    """Seconds of a step."""
    started = time.perf_counter()
    take(batch)
    return time.perf_counter() - started


def profiled(take: Callable[[Batch], None], batches: list[Batch]) -> tuple[float, dict[str, float]]:
    """The share of a step outside products and attention, and what takes most of that."""
    with profile(activities=[ProfilerActivity.CPU]) as record:
        seconds = sum(timed(take, batch) for batch in batches)
    others: dict[str, float] = defaultdict(float)
    inside = 0.0
    for event in record.events():
        if within_product(event):
            inside += event.self_cpu_time_total / 1e6 / seconds
        else:
            others[event.name] += event.self_cpu_time_total / 1e6 / seconds
    others["(Python)"] = 1 - inside - sum(others.values())
    largest = sorted(others, key=others.__getitem__, reverse=True)[:SHOWN]
    return 1 - inside, {operator: others[operator] for operator in largest}


def within_product(event: FunctionEvent | None) -> bool:
    """Whether an operator is a product or attention, or called by one (`addmm` copies its bias)."""
    while event is not None:
        if event.name.startswith(PRODUCTS):
            return True
        event = event.cpu_parent
    return False


def gated_share(
    settings: Train, shapes: dict[str, FeatureManifest], batches: list[Batch], folder: str
) -> tuple[float, float]:
    """What `gated` takes of a step that has it, of its time and of its operations: steps with and without
    take turns.
    """
    shapes = {name: shapes[name] for name in settings.columns}
    kinds = [structs.replace(settings, fusion=Fusion(kind=kind)) for kind in ("gated", "none")]
    takes = [stepper(made(one, shapes, folder), one) for one in kinds]
    with_it, without = (
        min(seconds)
        for seconds in zip(
            *([timed(take, batch) for take in takes] for batch in batches * TURNS), strict=True
        )
    )
    counted_with, counted_without = (operations(take, batches[0]) for take in takes)
    return 1 - without / with_it, 1 - counted_without / counted_with


def operations(take: Callable[[Batch], None], batch: Batch) -> int:
    """Floating-point operations of a step's products and attention."""
    with FlopCounterMode(display=False) as counter:
        take(batch)
    return counter.get_total_flops()


if __name__ == "__main__":
    main()
