"""How much of a table a reason may take: `budgets` of params.yaml. A stage that finds more fails."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from contract.errors import BudgetError, FuselineError, ParamsError, unknown_name
from contract.files import atomic_path
from data_pipeline.reasons import OF_STAGE, REASONS

REJECTS = Path(".work/rejects")
SHOWN = 5  # places of findings in the error


def check(limits: Mapping[str, float], folder: Path, stage: str, item: str = "") -> None:
    """BudgetError when a reason has more findings in a table than its limit, a share of the rows read.

    folder: what the stage is about to publish: findings.parquet and counts.json. item: the dataset or the
    encoder. The findings outlive the failure, under .work/rejects.
    """
    for reason in limits:
        if reason not in OF_STAGE[stage]:
            raise _never_found(stage, reason)
    counts = json.loads((folder / "counts.json").read_text())
    found = pl.read_parquet(folder / "findings.parquet").filter(pl.col("reason").is_in(list(limits)))
    for rows in found.sort("reason", "table", maintain_order=True).partition_by("reason", "table"):
        reason, table = rows["reason"][0], rows["table"][0]
        read = counts[table]["read"]
        if len(rows) > limits[reason] * read:
            raise _exceeded(stage, item, rows, read, limits[reason], keep(folder, stage, item))


def _never_found(stage: str, reason: str) -> FuselineError:
    where, homes = (
        f"params.yaml: budgets.{stage}",
        [name for name, known in OF_STAGE.items() if reason in known],
    )
    if not homes:
        return unknown_name(where, "reason", reason, OF_STAGE[stage])
    fix = f"it belongs to {' or '.join(f'budgets.{home}' for home in homes)}"
    return ParamsError(where, f"stage {stage} never finds '{reason}'", fix=fix)


def keep(folder: Path, stage: str, item: str) -> Path:
    """Put the findings where they can be looked at when the folder is gone."""
    kept = REJECTS / f"{'-'.join(filter(None, (stage, item)))}.parquet"
    with atomic_path(kept) as place:
        shutil.copyfile(folder / "findings.parquet", place)
    return kept


def _exceeded(stage: str, item: str, rows: pl.DataFrame, read: int, limit: float, kept: Path) -> BudgetError:
    table, reason, outcome = rows.select("table", "reason", "outcome").row(0)
    first = rows.select("file", "position").unique(maintain_order=True).head(SHOWN).iter_rows()
    share = 100 * len(rows) / max(read, 1)
    places = ", ".join(" ".join(place).strip() for place in first)
    return BudgetError(
        f"{stage} {item}".strip(),
        f"more {table} than the budget allows: {REASONS[reason]}",
        found=f"{len(rows):,} of {read:,} ({share:.3g} %), {outcome}: {places}",
        expected=f"at most {100 * limit:.3g} %, budgets.{stage}.{reason} of params.yaml",
        fix=f"mend the source (all findings of the stage are in {kept}), or raise the budget",
    )
