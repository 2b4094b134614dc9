"""A small project folder with pictures, a catalogue and a tiny encoder: what stage features starts from."""

from pathlib import Path

import numpy as np
import polars as pl
import yaml
from PIL import Image

from contract.files import sha256_file
from contract.seeds import rng

SHARDS = {"train": 3, "val": 1}
PICTURES = 11
TINY = {"embed_dim": 16, "num_heads": 2, "depth": 1, "neck_dim": 8}


def build(project: Path, *, generated: bool = True, workers: int = 1, **encoder: object) -> None:
    """params.yaml, pictures/ and images/catalogue.parquet."""
    project.mkdir(exist_ok=True)
    write_params(project, workers=workers, **encoder)
    (project / "pictures").mkdir(exist_ok=True)
    for number in range(PICTURES):
        draw(project, number)
    write_catalogue(project, generated)


def write_params(project: Path, *, workers: int = 1, **encoder: object) -> None:
    """params.yaml; the encoder `esam` has random weights."""
    entry = {
        "architecture": "esam",
        "model": "efficient_sam_vitt",
        "weights": "random",
        "size": 32,
        "grid": 2,
        "batch": 4,
        "options": TINY,
    }
    settings = {
        "workers": workers,
        "datasets": {"gqa": {"format": "gqa", "folder": "pictures", "raw": [{"shards": SHARDS}]}},
        "tokenizer": {"name": "words.json"},
        "encoders": {"esam": entry | encoder},
        "negatives": {"encoder": "esam"},
    }
    (project / "params.yaml").write_text(yaml.safe_dump(settings))


def draw(project: Path, number: int, version: int = 0) -> None:
    """A picture of noise; another version has other pixels."""
    pixels = rng("picture", number, version).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(project / f"pictures/{number}.png")


def write_catalogue(project: Path, generated: bool = True) -> None:
    """images/catalogue.parquet of the files as they are now; the last picture is val, gqa-002 is empty."""
    rows = []
    for number in range(PICTURES):
        split = "val" if number == PICTURES - 1 else "train"
        shard = "gqa-val-000" if split == "val" else f"gqa-{number % 2:03d}"
        path = f"pictures/{number}.png"
        picture = {"dataset": "gqa", "picture": f"p{number:02d}", "key": f"p{number:02d}", "path": path}
        place = {"drop": 0, "split": split, "shard": shard, "width": 30, "height": 20}
        identity = {"sha256": sha256_file(project / path), "group": f"g{number}", "generated": generated}
        rows.append(picture | place | identity)
    (project / "images").mkdir(exist_ok=True)
    pl.DataFrame(rows).write_parquet(project / "images/catalogue.parquet")
