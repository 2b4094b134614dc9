"""The comparison as Markdown: a table a factor, a column a measure. Numbers are percent."""

from itertools import groupby

from training.ablation.scores import Line


def markdown(title: str, lines: list[Line], seeds: int) -> str:
    """One factor: its lines come measure by measure, each with the same values in the same order."""
    measures = {measure: list(group) for measure, group in groupby(lines, lambda line: line.measure)}
    columns = list(measures)
    head = [f"### {title}", "", f"Percent; mean ± standard deviation over {seeds} seeds (lowest–highest)."]
    table = [_row(["value", *columns]), _row(["---", *("---:" for _ in columns)])]
    values = zip(*measures.values(), strict=True)
    table += [_row([of[0].value, *map(_cell, of)]) for of in values]
    return "\n".join([*head, "", *table, ""])


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(line: Line) -> str:
    low, high = min(line.scores), max(line.scores)
    return f"{100 * line.mean:.1f} ± {100 * line.spread:.1f} ({100 * low:.1f}–{100 * high:.1f})"
