"""Everything → reports/dataset.html, to look at, and reports/dataset.json, the same numbers."""

import argparse
import json
from pathlib import Path

import polars as pl

from contract import params
from contract.files import write_atomic
from data_pipeline.report import dataset_facts as facts_of
from data_pipeline.report import report_page
from data_pipeline.report.dataset_facts import CATALOGUE, Plain

PAGE, NUMBERS = Path("reports/dataset.html"), Path("reports/dataset.json")


def arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(args: argparse.Namespace) -> None:
    """Write both files."""
    settings = params.load(args.params)
    catalogue = pl.read_parquet(CATALOGUE)
    found = facts_of.findings(settings.datasets, settings.encoders)
    facts = gather(settings, catalogue, found)
    album = report_page.Album()
    most = settings.report.examples
    shown = {name: report_page.samples(name, catalogue, most, album) for name in settings.datasets}
    cards = report_page.examples(found, most, report_page.Sources(settings.datasets), album)
    write_atomic(NUMBERS, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    write_atomic(PAGE, report_page.render(facts, cards, shown))
    print(f"{PAGE}: {facts['headline']}")


def gather(settings: params.Params, catalogue: pl.DataFrame, found: pl.DataFrame) -> Plain:
    """All numbers of the report."""
    names, encoders = list(settings.datasets), list(settings.encoders)
    columns = ["text", "picture", "role", "answer", "type", "about"]
    texts = {name: pl.read_parquet(f"spans/{name}/texts.parquet", columns=columns) for name in names}
    facts: Plain = {
        "generated": bool(len(catalogue)) and bool(catalogue["generated"].all()),
        "accounts": facts_of.accounts(names),
        "images": json.loads(Path("images/counts.json").read_text())["images"],
        "findings": facts_of.tally(found),
        "splits": facts_of.splits(catalogue, texts),
        "leaks": facts_of.leaks(catalogue),
        "coverage": [row for name in names for row in facts_of.coverage(name, texts[name])],
        "box_sizes": facts_of.box_sizes(names),
        "answers": facts_of.balance(catalogue, texts),
        "features": [facts_of.features(name) for name in encoders],
        "disk": facts_of.disk(encoders),
        "provenance": facts_of.provenance(settings),
    }
    totals = total(facts)
    return {"headline": headline(totals, facts), "totals": totals, **facts}


def total(facts: Plain) -> Plain:
    """What the shards hold, and what became of the source's rows."""
    accounts = facts["accounts"].values()
    rejects = [row for row in facts["findings"] if row["outcome"] == "reject"]
    return {
        "datasets": len(facts["accounts"]),
        "pictures": sum(row["pictures"] for row in facts["splits"]),
        "texts": sum(row["texts"] for row in facts["splits"]),
        "regions": sum(stages["validate"].get("regions", {}).get("kept", 0) for stages in accounts),
        "spans": sum(row["spans"] for row in facts["coverage"]),
        "rows": sum(table["read"] for stages in accounts for table in stages["read"].values()),
        "rejected": sum(row["count"] for row in rejects if not row["cascade"]),
        "cascaded": sum(row["count"] for row in rejects if row["cascade"] and row["table"] != "images"),
        "repaired": sum(row["count"] for row in facts["findings"] if row["outcome"] == "repair"),
        "flagged": sum(row["count"] for row in facts["findings"] if row["outcome"] == "flag"),
    }


def headline(totals: Plain, facts: Plain) -> str:
    """The report in one sentence."""
    leaks = len(facts["leaks"])
    seen = "no picture is" if not leaks else f"{leaks:,} GROUPS OF PICTURES ARE"
    return (
        f"{totals['pictures']:,} pictures with {totals['texts']:,} texts "
        f"and {totals['regions']:,} boxes are ready; "
        f"{totals['rejected']:,} of {totals['rows']:,} source rows were rejected, each with its reason, "
        f"{totals['cascaded']:,} more went with them, "
        f"and {seen} in both a training and an evaluation split."
    )
