"""What a task's scorer gives: its part of the result file, a table, and official files.

A section is one set of questions with its measures. It has one form for every task, so that datasets add up,
chance stands beside each score, and the table is made in one place.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from training.evaluation.held_out import HeldOut
from training.model.model import FusionModel

NO_TEXT = "no picture of these shards has a text for it"
NONE_LEFT = "its texts ask nothing: crowds, what no encoder sees and what may be true are left out"

BESIDE = ("chance", "datasets")  # objects of a result that are no sections

NOTES = {
    "without_features": "pictures have no features: an encoder could not take them",
    "texts_cut": "texts are longer than the model reads: cut at model.max_tokens",
    "unanswered": "questions are of pictures without features: in no score",
    "without_partner": "texts are left out: of no picture beside them that they are surely false of",
    "without_box": "phrases are left out: their box is a crowd, or unseen by the encoder of the first column",
    "beyond_max_tokens": "phrases are left out: they end beyond model.max_tokens",
}

Counts = Mapping[str, int]
Values = Mapping[str, float | None]


class Wanted(Struct, frozen=True):
    """What else was asked for. blind: vqa's baseline. The others: files to read, and to write."""

    by_type: Path
    blind: FusionModel | None
    questions: list[Path]
    choices: Path | None
    predictions: Path | None
    submission: Path | None


class Scored(Struct):
    """results: objects of the result file by their names; files: what else is to be written; datasets: those
    that were asked.
    """

    results: dict[str, Any]
    table: str
    files: dict[Path, bytes] = {}
    datasets: Sequence[str] = ()


Scorer = Callable[[HeldOut, Wanted], Scored | str]  # a text: why there is nothing to score


class Section(Struct):
    """One set of questions. values: measure → score; chance: that of a guess, or of another baseline, where
    there is one. counts: how many of what; the first one is what a score is a mean over. noted: how many of
    what a score is not of, as it should be; by the names of NOTES.
    """

    values: Values
    chance: Values
    counts: Counts
    noted: Counts = {}

    @property
    def weight(self) -> int:
        """How many questions."""
        return next(iter(self.counts.values()))


Sections = Mapping[str, Section]  # by name; "" is the task's own


def scored(task: str, of: Mapping[str, Sections]) -> Scored | str:
    """A task's result from the sections of each dataset that has one, or why there is none.

    Questions of all datasets weigh the same.
    """
    found = {dataset: sections for dataset, sections in of.items() if sections}
    if not found:
        return NONE_LEFT if of else NO_TEXT
    names = dict.fromkeys(name for sections in found.values() for name in sections)
    whole = {name: pool([some[name] for some in found.values() if name in some]) for name in names}
    result = _plain(whole)
    if len(found) > 1:
        result["datasets"] = {dataset: _plain(sections) for dataset, sections in found.items()}
    tables = [table(task, whole)]
    if len(found) > 1:
        tables += [table(f"{task}, {dataset}", sections) for dataset, sections in found.items()]
    return Scored({task: result}, "\n\n".join(tables), datasets=list(found))


def pool(sections: Sequence[Section]) -> Section:
    """The section of all questions of these; where there is one, itself."""
    weights = [section.weight for section in sections]
    return Section(
        _means([section.values for section in sections], weights),
        _means([section.chance for section in sections], weights),
        _sums([section.counts for section in sections]),
        _sums([section.noted for section in sections]),
    )


def _sums(counts: Sequence[Counts]) -> Counts:
    names = dict.fromkeys(name for some in counts for name in some)
    return {name: sum(some.get(name, 0) for some in counts) for name in names}


def _means(values: Sequence[Values], weights: Sequence[int]) -> Values:
    """The weighted mean of each measure over those that have it; null where none has."""
    means: dict[str, float | None] = {}
    for name in dict.fromkeys(name for some in values for name in some):
        known = [
            (value, weight)
            for some, weight in zip(values, weights, strict=True)
            if weight and (value := some.get(name)) is not None
        ]
        total = sum(weight for _, weight in known)
        means[name] = sum(value * weight for value, weight in known) / total if total else None
    return means


def _plain(sections: Sections) -> dict[str, Any]:
    """For the result file: shares of 1, 4 decimals."""
    plain: dict[str, Any] = {}
    for name, section in sections.items():
        made: dict[str, Any] = _rounded(section.values)
        if section.chance:
            made["chance"] = _rounded(section.chance)
        made |= {**section.counts, **section.noted}
        plain |= {name: made} if name else made
    return plain


def sections(plain: Mapping[str, Any]) -> Sections:
    """What a task's object of the result file was made of: whole numbers are counts, or noted if in NOTES."""
    parts = {name: part for name, part in plain.items() if isinstance(part, dict) and name not in BESIDE}
    own = {name: value for name, value in plain.items() if name not in (*parts, "datasets")}
    return {name: _section(part) for name, part in ({"": own} | parts).items() if part}


def _section(plain: Mapping[str, Any]) -> Section:
    values = {name: value for name, value in plain.items() if value is None or isinstance(value, float)}
    whole = {name: value for name, value in plain.items() if isinstance(value, int)}
    counts = {name: count for name, count in whole.items() if name not in NOTES}
    noted = {name: count for name, count in whole.items() if name in NOTES}
    return Section(values, plain.get("chance", {}), counts, noted)


def _rounded(values: Values) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 4) for name, value in values.items()}


def table(title: str, sections: Sections) -> str:
    """Scores in percent, each beside its chance, and how many points it lies above."""
    lines = [f"{title:<28}{'score':>9}{'chance':>10}{'above':>9}"]
    for name, section in sections.items():
        counts = ", ".join(f"{count:,} {_words(what)}" for what, count in section.counts.items() if count)
        lines.append(f"{_words(name)} ({counts})".lstrip())
        lines += [
            _line(measure, value, section.chance.get(measure)) for measure, value in section.values.items()
        ]
    return "\n".join([*lines, *_notes(sections)])


def _notes(sections: Sections) -> list[str]:
    """A line for each count that is not zero; of which sections, where not all have the same."""
    found: dict[tuple[str, int], list[str]] = {}
    for name, section in sections.items():
        for what, count in section.noted.items():
            found.setdefault((what, count), []).append(_words(name))
    return [
        note(what, count) + (f" ({', '.join(of)})" if len(of) < len(sections) else "")
        for (what, count), of in found.items()
        if count
    ]


def note(what: str, count: int) -> str:
    """A line for people."""
    return f"note: {count:,} {NOTES[what]}"


def _line(measure: str, value: float | None, chance: float | None) -> str:
    cells = f"{_percent(value):>9}{_percent(chance):>10}{_above(value, chance):>9}"
    return f"  {_words(measure):<26}{cells}".rstrip()


def _words(name: str) -> str:
    """As people write it; a measure such as R_s@1 is a name."""
    return name if "@" in name else name.replace("_", " ")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}%"


def _above(value: float | None, chance: float | None) -> str:
    return "" if value is None or chance is None else f"{100 * (value - chance):+.1f}"
