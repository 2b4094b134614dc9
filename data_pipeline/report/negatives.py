"""The negatives: how near they lie against chance, what was left out and why, and some of them to look at."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import polars as pl
from msgspec import Struct

from contract import manifest
from contract.manifest import Certificate, NegativesManifest
from data_pipeline.negatives.statistics import Example, Part, Statistics
from data_pipeline.report import charts, page
from data_pipeline.report.album import Album, Plain

FOLDER = Path("negatives")
MOST_EXAMPLES, MOST_NEAR = 12, 6


class Mined(Struct):
    """All but the examples. searches: as in the manifest."""

    searches: dict[str, Certificate]
    edges: list[float]
    parts: list[Part]


def mined() -> tuple[Mined, list[Example]]:
    """What stage negatives says of itself."""
    held = msgspec.json.decode((FOLDER / "statistics.json").read_bytes(), type=Statistics)
    searches = manifest.load(FOLDER, NegativesManifest).searches
    return Mined(searches, held.edges, held.parts), held.examples


def similarity(facts: Mined, what: str) -> charts.Plot | None:
    """Scores of mined pairs beside those of random ones, as shares; None where nothing was mined."""
    held = [getattr(part, what) for part in facts.parts]
    series = {
        "mined": _shares([one.mined for one in held], len(facts.edges) - 1),
        "random": _shares([one.random for one in held], len(facts.edges) - 1),
    }
    if not any(series["mined"]):
        return None
    first = next(place for place, pair in enumerate(zip(*series.values(), strict=True)) if any(pair))
    lines = {name: charts.steps(facts.edges[first:], shares[first:]) for name, shares in series.items()}
    x = ("cosine", lambda value: f"{value:.2g}")
    return charts.plot(f"Neighbours of {what}", lines, x, ("share of the pairs", page.small), filled=True)


def _shares(counted: Sequence[Sequence[int]], bins: int) -> list[float]:
    summed = [sum(column) for column in zip(*counted, strict=True)] or [0] * bins
    return [count / max(sum(summed), 1) for count in summed]


class Sum(Struct):
    """All splits of one dataset. passed, filters, swaps: as in a Part's pictures and texts."""

    dataset: str
    passed: Counter[str]
    filters: Counter[str]
    swaps: dict[str, Counter[str]]


def sums(parts: Sequence[Part]) -> list[Sum]:
    """What was left out and what was swapped, per dataset."""
    found: dict[str, Sum] = {}
    for part in parts:
        held = found.setdefault(part.dataset, Sum(part.dataset, Counter(), Counter(), {}))
        held.passed.update(part.pictures.passed)
        held.filters.update(part.texts.filters)
        for kind, ends in part.texts.swaps.items():
            held.swaps.setdefault(kind, Counter()).update(ends)
    return list(found.values())


def gallery(found: Sequence[Example], catalogue: pl.DataFrame, album: Album) -> list[Plain]:
    """Examples with the pictures that they name, of each dataset and kind in turn."""
    paths = {
        (dataset, key): Path(path)
        for dataset, key, path in catalogue.select("dataset", "key", "path").iter_rows()
    }
    return [_shown(example, paths, album) for example in _varied(found)[:MOST_EXAMPLES]]


def _varied(found: Sequence[Example]) -> list[Example]:
    """The first of each dataset and role, then the second of each."""
    turns: dict[tuple[str, str], int] = {}
    ranked = []
    for place, example in enumerate(found):
        kind = (example.dataset, example.role)
        turns[kind] = turns.get(kind, 0) + 1
        ranked.append((turns[kind], place))
    return [found[place] for _, place in sorted(ranked)]


def _shown(example: Example, paths: dict[tuple[str, str], Path], album: Album) -> Plain:
    def picture(key: str) -> Plain:
        return album.add(paths.get((example.dataset, key)))

    near = [
        {"kind": one.kind, "content": one.content, "score": one.score, "picture": picture(one.key)}
        for one in example.near[:MOST_NEAR]
    ]
    return {"example": example, "picture": picture(example.key), "near": near}
