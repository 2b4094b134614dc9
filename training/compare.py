"""`python -m training.compare`: the rows of the ablation side by side, as table, plot and numbers."""

import argparse
import sys
from pathlib import Path

import msgspec

from contract.errors import MismatchError, run_command
from contract.files import write_atomic
from training.ablation import chart, plan, scores, table
from training.ablation.plan import Ablation
from training.ablation.scores import Line, Scores

EXAMPLES = """\
examples:
  python -m training.compare        reports/ablation/*.json → reports/ablation.json, .md and .svg
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.compare",
        description="The rows of the ablation side by side.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--plan", type=Path, default=Path("ablation/params.yaml"), help="default: ablation/params.yaml"
    )
    parser.add_argument(
        "--rows", type=Path, default=Path("reports/ablation"), help="folder of the rows' results"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("reports/ablation"),
        help="three files of that name",
    )
    return parser


def main(arguments: list[str]) -> None:
    """Read every row, write the three files, print the table."""
    options = parser().parse_args(arguments)
    ablation = plan.load(options.plan)
    found = {row: _read(options.rows / f"{row}.json", ablation, row) for row in ablation.rows}
    compared = {name: compare(ablation, name, found) for name in ablation.factors}
    titles = {name: factor.title for name, factor in ablation.factors.items()}
    every = [line for lines in compared.values() for line in lines]
    text = "\n".join(
        table.markdown(titles[name], lines, len(ablation.seeds)) for name, lines in compared.items()
    )
    drawn = {titles[name]: _first_measure(lines) for name, lines in compared.items()}
    write_atomic(
        options.out.with_suffix(".json"), msgspec.json.format(msgspec.json.encode(every), indent=1) + b"\n"
    )
    write_atomic(options.out.with_suffix(".md"), text)
    write_atomic(options.out.with_suffix(".svg"), chart.svg(drawn))
    print(text)


def compare(ablation: Ablation, name: str, found: dict[str, Scores]) -> list[Line]:
    """The lines of a factor, measure by measure."""
    rows = ablation.factors[name].rows
    measures = ablation.base(next(iter(rows.values()))).measures
    of = {value: found[row] for value, row in rows.items()}
    return [line for measure in measures for line in scores.lines(name, of, measure)]


def _first_measure(lines: list[Line]) -> list[Line]:
    return [line for line in lines if line.measure == lines[0].measure]


def _read(path: Path, ablation: Ablation, row: str) -> Scores:
    """A row's result, if it is one of this plan."""
    known = scores.read(path)
    found, expected = _described(known), _planned(ablation, row)
    differing = [name for name in expected if found[name] != expected[name]]
    if differing:
        raise MismatchError(
            path,
            "was made by another plan",
            found=", ".join(f"{name} {found[name]}" for name in differing),
            expected=", ".join(f"{name} {expected[name]}" for name in differing),
            fix=f"python -m training.ablate {row}",
        )
    return known


def _described(known: Scores) -> dict[str, object]:
    """What a result says of its plan."""
    counts = {measure: len(of_seeds) for measure, of_seeds in known.scores.items()}
    return {"row": known.row, "set": known.set, "split": known.split, "seeds": known.seeds, "scores": counts}


def _planned(ablation: Ablation, row: str) -> dict[str, object]:
    """What it must say. scores: measure → how many, one a seed."""
    counts = dict.fromkeys(ablation.base(row).measures, len(ablation.seeds))
    return {
        "row": row,
        "set": ablation.settings(row),
        "split": ablation.split,
        "seeds": ablation.seeds,
        "scores": counts,
    }


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
