"""Stage features against the bare encoder: ViT-S/16 at 224 pixels, random weights, generated photographs.

Both run as two processes of one thread. The stage: its whole command, from Python's start to the finished
column. Bare: the model's forward pass over one batch that is decoded and normalised already, again and again.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import simplejpeg
import torch
import yaml
from msgspec import Struct
from msgspec.structs import asdict

from benchmarks import report
from benchmarks.report import Figure, figure
from contract.files import sha256_file
from contract.params import Drop, Encoder
from contract.seeds import rng
from data_pipeline.engine import run_tasks
from data_pipeline.features import encode
from data_pipeline.pictures import placement

ROOT = Path(__file__).parents[1]
WIDTH, HEIGHT = 640, 480
WORKERS, BATCH, SHARDS = 2, 16, 20
ENCODER = {
    "architecture": "vit",
    "model": "vit_small_patch16_224",
    "weights": "random",
    "size": 224,
    "grid": 14,
    "batch": BATCH,
    "threads": 1,
}


class Bare(Struct):
    """What one process encodes without the stage."""

    pictures: int


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.features", description=__doc__)
    parser.add_argument("--pictures", type=int, default=6000, help="in the first delivery (default: 6000)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        report.write("features", measure(Path(temporary), options.pictures))


def measure(project: Path, pictures: int) -> list[Figure]:
    """The stage over `pictures`, then over 1 % more; the bare encoder before and after."""
    new = pictures // 100
    write_pictures(project, pictures + new)
    before = bare(pictures // 10)
    write_project(project, pictures, 0)
    full = run_stage(project)
    after = bare(pictures // 10)
    write_project(project, pictures, new)
    again = run_stage(project)
    speed = max(before, after)
    stage = f"{pictures:,} pictures of {WIDTH} × {HEIGHT}, {WORKERS} processes of one thread"
    return [
        figure("bare ViT-S/16 at 224, pictures/s", speed, against="the better of two runs"),
        figure("stage features, pictures/s", pictures / full, against=stage),
        figure("stage features, share of the bare encoder's speed", pictures / full / speed, "> 0.85"),
        figure("the same with 1 % new pictures, % of the full time", 100 * again / full, "< 5"),
    ]


def write_pictures(project: Path, count: int) -> None:
    """JPEGs as large and as hard to decode as photographs: soft shapes under fine noise."""
    folder = project / "pictures"
    folder.mkdir()
    coarse = rng("coarse").integers(0, 200, (HEIGHT // 16, WIDTH // 16, 3))
    base = np.kron(coarse, np.ones((16, 16, 1))) + rng("fine").integers(0, 40, (HEIGHT, WIDTH, 3))
    for number in range(count):
        pixels = np.roll(base, number, axis=(0, 1)).astype(np.uint8)
        (folder / f"{number}.jpg").write_bytes(simplejpeg.encode_jpeg(pixels, quality=85))


def write_project(project: Path, pictures: int, new: int) -> None:
    """params.yaml and the catalogue: a first delivery, and a second of `new` pictures, a shard a process."""
    drops = [Drop({"train": SHARDS}, "first")] + ([Drop({"train": WORKERS}, "second")] if new else [])
    ranges = placement.shard_ranges(drops)
    rows = []
    for number in range(pictures + new):
        name, path = f"{number:06d}", f"pictures/{number}.jpg"
        shard = placement.shard("gqa", name, "train", int(number >= pictures), ranges)
        place = {"dataset": "gqa", "picture": name, "key": name, "path": path, "shard": shard}
        size = {"width": WIDTH, "height": HEIGHT, "sha256": sha256_file(project / path)}
        rows.append(place | size | {"split": "train", "generated": True})
    (project / "images").mkdir(exist_ok=True)
    pl.DataFrame(rows).write_parquet(project / "images/catalogue.parquet")
    settings = {
        "workers": WORKERS,
        "datasets": {"gqa": {"format": "gqa", "folder": "x", "raw": [asdict(d) for d in drops]}},
        "tokenizer": {"name": "none.json"},
        "encoders": {"vit": ENCODER},
        "negatives": {"encoder": "vit"},
    }
    (project / "params.yaml").write_text(yaml.safe_dump(settings))


def run_stage(project: Path) -> float:
    """Seconds of the command."""
    command = [sys.executable, "-m", "data_pipeline", "features", "vit"]
    start = time.perf_counter()
    subprocess.run(command, cwd=project, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    return time.perf_counter() - start


def bare(pictures: int) -> float:
    """Pictures per second of all processes together."""
    tasks = [Bare(pictures // WORKERS)] * WORKERS
    return sum(run_tasks(speed_alone, tasks, WORKERS, label="bare encoder"))


def speed_alone(task: Bare) -> float:
    """Pictures per second of this process."""
    torch.set_num_threads(1)
    model = encode.load(Encoder(**ENCODER)).model
    pixels = torch.randn(BATCH, 3, 224, 224)
    batches = max(1, task.pictures // BATCH)
    with torch.inference_mode():
        model(pixels)
        start = time.perf_counter()
        for _ in range(batches):
            model(pixels)
    return batches * BATCH / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
