"""The comparison as Markdown: a table a factor, a column a measure. Numbers are percent."""

from itertools import groupby

from training.ablation.scores import Line


def markdown(title: str, lines: list[Line], seeds: int) -> str:
    """One factor: its lines come measure by measure, each with the same values in the same order.

    Below the table stands what the first value is worth by the first measure.
    """
    measures = {measure: list(group) for measure, group in groupby(lines, lambda line: line.measure)}
    columns = list(measures)
    head = [f"### {title}", "", f"Percent; mean ± standard deviation over {seeds} seeds (lowest–highest)."]
    table = [_row(["value", *columns]), _row(["---", *("---:" for _ in columns)])]
    values = zip(*measures.values(), strict=True)
    table += [_row([of[0].value, *map(_cell, of)]) for of in values]
    return "\n".join([*head, "", *table, "", verdict(measures[columns[0]]), ""])


def verdict(lines: list[Line]) -> str:
    """Whether the first value beats the best of the others, by one measure, by more than the seeds' spread.

    That is the larger standard deviation of the two.
    """
    first, *others = lines
    if not others:
        return f"`{first.value}` stands alone."
    best = max(others, key=lambda line: line.mean)
    gain, spread = first.mean - best.mean, max(first.spread, best.spread)
    beside = f"the best of the others, `{best.value}`: {100 * gain:+.1f} points"
    if len(first.scores) == 1:
        return f"By {first.measure}, `{first.value}` beside {beside}. One seed tells no spread."
    if abs(gain) <= spread:
        word, place = "neither better nor worse", "lie within"
    else:
        word, place = "better" if gain > 0 else "worse", "are more than"
    spread_said = f"the seeds' spread of {100 * spread:.1f}"
    return f"By {first.measure}, `{first.value}` is {word} than {beside} {place} {spread_said}."


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(line: Line) -> str:
    low, high = min(line.scores), max(line.scores)
    return f"{100 * line.mean:.1f} ± {100 * line.spread:.1f} ({100 * low:.1f}–{100 * high:.1f})"
