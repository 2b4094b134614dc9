"""Picture files of one dataset → scan/<dataset>/{pictures,findings}.parquet

Every declared file is opened once: type by content, real size, sha256, perceptual hash. A missing or
damaged file is a reject.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl
from msgspec.structs import asdict

from contract import params
from contract.errors import RawDataError
from contract.files import atomic_path
from data_pipeline.engine import run_tasks
from data_pipeline.frames import read_table, reasons, rejected, write_findings, write_table
from data_pipeline.pictures.scanning import Result, Scanned, Task, Trouble, scan
from data_pipeline.tables import Account
from data_pipeline.validation import budgets

GENERATED = "GENERATED.json"  # stands in every dataset folder of the demo
PICTURES_A_TASK = 64
SCHEMA = {
    "picture": pl.String,
    "path": pl.String,  # relative to the project
    "drop": pl.Int32,
    "split": pl.String,
    "bytes": pl.Int64,
    "sha256": pl.String,
    "format": pl.String,
    "mode": pl.String,
    "width": pl.Int32,
    "height": pl.Int32,
    "phash": pl.UInt64,
    "thumb": pl.Binary,
    "generated": pl.Boolean,
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="a name under datasets: in params.yaml")


def run(args: argparse.Namespace) -> None:
    settings, name = params.load(args.params), args.dataset
    folder = Path(params.dataset(settings, name).folder)
    scan_dataset(
        name, folder, Path("read", name), Path("scan", name), settings.workers, settings.budgets.scan
    )


def scan_dataset(
    name: str, folder: Path, read: Path, out: Path, workers: int, limits: Mapping[str, float]
) -> None:
    """Scan the files that read/<dataset>/images.parquet declares, in its order.

    limits: see validation.budgets.
    """
    declared = read_table(read, "images")
    files = declared["file"].to_list()
    tasks = [Task(str(folder), part) for part in _parts(files)]
    results = [result for part in run_tasks(scan, tasks, workers, label=f"scan {name}") for result in part]
    _check_any(folder, files, results)
    pictures = _pictures(declared, [scanned for scanned, _ in results], (folder / GENERATED).is_file())
    findings = _findings(declared, [trouble for _, trouble in results])
    account = Account()
    account.add("images", len(declared), len(pictures), rejected(findings))
    with atomic_path(out) as place:
        place.mkdir()
        write_table(place / "pictures.parquet", pictures)
        write_findings(place, findings)
        account.write(place)
        budgets.check(limits, place, "scan", name)
    print(f"scan {name}: {account.summary()} {reasons(findings)}")


def _parts(files: list[str]) -> list[list[str]]:
    return [files[at : at + PICTURES_A_TASK] for at in range(0, len(files), PICTURES_A_TASK)]


def _check_any(folder: Path, files: Sequence[str], results: Sequence[Result]) -> None:
    """When no picture at all can be opened it is the folder that is wrong, and not every picture."""
    if not files or any(found for found, _ in results):
        return
    _, trouble = results[0]
    raise RawDataError(
        folder / files[0],
        f"none of the {len(files):,} declared pictures can be opened, this the first",
        found=trouble.detail if trouble else None,
        fix=f"put the pictures into {folder}, or name another folder in params.yaml",
    )


def _pictures(declared: pl.DataFrame, scanned: Sequence[Scanned | None], generated: bool) -> pl.DataFrame:
    names = declared.select("picture", "drop", "split").iter_rows(named=True)
    rows = [
        {**name, **asdict(found), "generated": generated}
        for name, found in zip(names, scanned, strict=True)
        if found is not None
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


def _findings(declared: pl.DataFrame, troubles: Sequence[Trouble | None]) -> pl.DataFrame:
    found = [asdict(trouble) if trouble else {} for trouble in troubles]
    kinds = {"outcome": pl.String, "reason": pl.String, "detail": pl.String}
    judged = pl.concat([declared, pl.DataFrame(found, schema=kinds)], how="horizontal")
    return judged.filter(pl.col("reason").is_not_null()).select(
        table=pl.lit("images"),
        id="picture",
        outcome="outcome",
        reason="reason",
        detail="detail",
        record=pl.struct(declared.columns).struct.json_encode(),
        file="source_file",
        position="position",
    )
