"""What the pipeline takes on disk."""

from collections.abc import Iterable
from pathlib import Path

import polars as pl
from msgspec import Struct

TABLES = ("read", "scan", "images", "validate", "spans")


class Used(Struct):
    """Files and bytes of one folder. kind: "column" (training reads it), "tables" (stages do) or "raw"."""

    folder: str
    kind: str
    files: int
    bytes: int


def used(raw: dict[str, str], encoders: Iterable[str]) -> list[Used]:
    """Columns, tables between stages, raw pictures. raw: {dataset: its folder}."""
    columns = ["data", *(f"features/{name}" for name in encoders), "negatives"]
    rows = [_held(folder, "column") for folder in columns] + [_held(folder, "tables") for folder in TABLES]
    return rows + [_scanned(dataset, folder) for dataset, folder in raw.items()]


def _held(folder: str, kind: str) -> Used:
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    return Used(folder, kind, len(files), sum(path.stat().st_size for path in files))


def _scanned(dataset: str, folder: str) -> Used:
    """The pictures that stage scan opened."""
    sizes = pl.read_parquet(f"scan/{dataset}/pictures.parquet", columns=["bytes"])["bytes"]
    return Used(f"{folder} (pictures)", "raw", len(sizes), int(sizes.sum()))
