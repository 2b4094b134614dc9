"""Everything → reports/dataset.html: one page to decide whether to train on the data.

reports/dataset.json has the same numbers; the page shows pictures beside them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec
import polars as pl

from contract import params
from contract.files import write_atomic
from data_pipeline.report import (
    answers,
    boxes,
    charts,
    disk,
    features,
    findings,
    flow,
    negatives,
    page,
    provenance,
    rejects,
    samples,
    spans,
    splits,
    summary,
    verdict,
)
from data_pipeline.report.album import Album, Plain
from data_pipeline.report.summary import Evidence

SECTIONS = {
    "flow": "Flow of rows",
    "splits": "Splits and leakage",
    "samples": "Samples",
    "findings": "Findings",
    "boxes": "Boxes",
    "texts": "Texts and spans",
    "answers": "Answers",
    "negatives": "Negatives",
    "features": "Features",
    "disk": "Disk",
    "provenance": "Provenance",
}
CATALOGUE = Path("images/catalogue.parquet")
PAGE, NUMBERS = Path("reports/dataset.html"), Path("reports/dataset.json")
TEXT_COLUMNS = ["text", "picture", "role", "answer", "type", "about", "tokens"]
# Bytes of pictures, as base64, in each section: with its text, the page stays under 6 MB.
SAMPLES_ROOM, REJECTS_ROOM, NEGATIVES_ROOM = 1_900_000, 1_700_000, 800_000
THUMBNAIL = 160  # longest side of a picture among the negatives, pixels


def arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(args: argparse.Namespace) -> None:
    """Write both files."""
    settings = params.load(args.params)
    catalogue = pl.read_parquet(CATALOGUE)
    found = findings.findings(settings.datasets, settings.encoders)
    facts = gather(settings, catalogue, found)
    write_atomic(NUMBERS, msgspec.json.format(msgspec.json.encode(facts), indent=1) + b"\n")
    write_atomic(PAGE, page.render({**facts, **pictures(settings, catalogue, found), **drawn(facts)}))
    print(f"{PAGE}: {facts['verdict'].headline}")


def gather(settings: params.Params, catalogue: pl.DataFrame, found: pl.DataFrame) -> Plain:
    """All numbers of the report, in the order of the JSON. found: all findings, with stage and dataset."""
    evidence = observed(settings, catalogue, found)
    totals = summary.totals(evidence)
    names = list(settings.datasets)
    folders = {name: dataset.folder for name, dataset in settings.datasets.items()}
    return {
        "verdict": verdict.verdict(evidence, totals),
        "totals": totals,
        "holdings": summary.holdings(evidence),
        "breaks": flow.breaks(evidence.flow),
        **msgspec.structs.asdict(evidence),
        "negatives": negatives.mined()[0],
        "spent": findings.spent(found, settings.budgets),
        "disk": disk.used(folders, settings.encoders),
        "provenance": provenance.sources(settings),
        "raw_files": provenance.raw_files(names),
    }


def observed(settings: params.Params, catalogue: pl.DataFrame, found: pl.DataFrame) -> Evidence:
    """What the verdict is drawn from."""
    names = list(settings.datasets)
    texts = {name: pl.read_parquet(f"spans/{name}/texts.parquet", columns=TEXT_COLUMNS) for name in names}
    transforms = {name: encoder.transform for name, encoder in settings.encoders.items()}
    return Evidence(
        generated=bool(len(catalogue)) and bool(catalogue["generated"].all()),
        flow=flow.flow(names, catalogue, found, flow.packed()),
        findings=findings.tally(found),
        splits=splits.splits(catalogue, texts),
        leakage=splits.leakage(),
        leaks={identity: splits.leaks(catalogue, identity) for identity in splits.IDENTITIES},
        coverage=[row for name in names for row in spans.coverage(name, texts[name])],
        boxes=boxes.boxes(names, catalogue, found, transforms),
        audit=spans.audit(names),
        answers=answers.balance(catalogue, texts),
        copies=len(catalogue) - catalogue["sha256"].n_unique(),
        features=[features.column(name) for name in settings.encoders],
    )


def pictures(settings: params.Params, catalogue: pl.DataFrame, found: pl.DataFrame) -> Plain:
    """What the page shows beside the numbers."""
    most, album = settings.report.examples, Album(SAMPLES_ROOM)
    shown = {name: samples.samples(name, catalogue, most, album) for name in settings.datasets}
    originals = rejects.Originals(settings.datasets)
    cards = rejects.examples(found, most, originals, Album(REJECTS_ROOM))
    nearest = negatives.gallery(negatives.mined()[1], catalogue, Album(NEGATIVES_ROOM, THUMBNAIL))
    return {"samples": shown, "cards": cards, "gallery": nearest, "min_area": settings.boxes.min_area}


def drawn(facts: Plain) -> Plain:
    """The charts, and the sections of the page that have something to show."""
    rivers = [charts.river(name, tables) for name, tables in facts["flow"].items()]
    present = [(anchor, title) for anchor, title in SECTIONS.items() if facts.get(anchor) != []]
    similar = [negatives.similarity(facts["negatives"], what) for what in ("pictures", "texts")]
    charted = {
        "rivers": rivers,
        "stages": flow.STAGES,
        "sections": present,
        "negative_sums": negatives.sums(facts["negatives"].parts),
        "similarities": [chart for chart in similar if chart],
    }
    return charted | ({"sensitivity": sensitivity(facts["boxes"])} if facts["boxes"] else {})


def sensitivity(facts: Sequence[boxes.BoxFacts]) -> charts.Plot:
    """What each `boxes.min_area` would drop."""
    lines = {
        row.dataset: [(float(size), count / row.measured) for size, count in row.sizes.items()]
        for row in facts
    }
    x = ("smallest box, as a share of the picture", lambda value: f"{100 * value:g} %")
    return charts.plot("Boxes dropped by min_area", lines, x, ("share of boxes", page.small))
