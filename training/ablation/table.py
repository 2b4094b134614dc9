"""The comparison as Markdown: a table a factor, a column a measure. Numbers are percent."""

from collections.abc import Iterable
from itertools import groupby

from training.ablation.scores import Line
from training.ablation.significance import LEVEL, least_difference


def markdown(title: str, lines: list[Line], seeds: int) -> str:
    """One factor: its lines come measure by measure, each with the same values in the same order.

    Below the table stands what the first value is worth by each measure.
    """
    measures = {measure: list(group) for measure, group in groupby(lines, lambda line: line.measure)}
    columns = list(measures)
    head = [f"### {title}", "", f"Percent; mean ± standard deviation over {seeds} seeds (lowest–highest)."]
    table = [_row(["value", *columns]), _row(["---", *("---:" for _ in columns)])]
    values = zip(*measures.values(), strict=True)
    table += [_row([of[0].value, *map(_cell, of)]) for of in values]
    return "\n".join([*head, "", *table, "", *_verdicts(measures.values()), ""])


def _verdicts(measures: Iterable[list[Line]]) -> list[str]:
    """A list where there are several measures."""
    said = [verdict(lines) for lines in measures]
    return [f"- {one}" for one in said] if len(said) > 1 else said


def verdict(lines: list[Line]) -> str:
    """From which of the others the first value differs by one measure, by more than seeds make of nothing."""
    first, *others = lines
    if not others:
        return f"`{first.value}` stands alone."
    if len(first.scores) == 1:
        return f"By {first.measure}: one seed tells no difference."
    least = least_difference([line.scores for line in lines])
    found = {word: _named(others, word, least) for word in ("better than", "worse than", "no different from")}
    said = "; ".join(f"{word} {names}" for word, names in found.items() if names)
    counts = (
        f"A difference counts from {100 * least:.1f} points on ({1 - LEVEL:.0%} sure of all rows together)."
    )
    return f"By {first.measure}, `{first.value}` is {said}. {counts}"


def _named(others: list[Line], word: str, least: float) -> str:
    """The values that the first is this beside, with their distance from it."""
    return ", ".join(
        f"`{line.value}` ({100 * line.gain:+.1f})" for line in others if _beside(line.gain, least) == word
    )


def _beside(gain: float, least: float) -> str:
    """What the first is beside a value that lies by so much above it."""
    if abs(gain) <= least:
        return "no different from"
    return "worse than" if gain > 0 else "better than"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(line: Line) -> str:
    low, high = min(line.scores), max(line.scores)
    return f"{100 * line.mean:.1f} ± {100 * line.spread:.1f} ({100 * low:.1f}–{100 * high:.1f})"
