"""`python -m training.ablate ROW`: a row of the ablation, trained and scored once with every seed."""

import argparse
import sys
import tempfile
from pathlib import Path

import msgspec

from contract.errors import run_command, unknown_name
from contract.files import write_atomic
from training import evaluate, fit
from training.ablation import plan
from training.ablation.plan import Ablation
from training.ablation.scores import Scores, find

EXAMPLES = """\
examples:
  python -m training.ablate vqa                 a row of ablation/params.yaml → reports/ablation/vqa.json
  python -m training.compare                    all rows side by side
  dvc repro ablation/dvc.yaml                   every row that is missing, then the comparison
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.ablate",
        description="Train and score a row of the ablation with every seed.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("row", metavar="ROW", help="a name under `rows` of the plan")
    parser.add_argument(
        "--plan", type=Path, default=Path("ablation/params.yaml"), help="default: ablation/params.yaml"
    )
    parser.add_argument(
        "--shards", nargs="+", default=["data"], metavar="PATTERN", help="training shards (default: data)"
    )
    parser.add_argument("--out", type=Path, help="result file (default: reports/ablation/<row>.json)")
    return parser


def main(arguments: list[str]) -> None:
    """Every seed of the row; its scores are what is kept."""
    options = parser().parse_args(arguments)
    ablation = plan.load(options.plan)
    if options.row not in ablation.rows:
        raise unknown_name(f"{options.plan}: rows", "row", options.row, ablation.rows)
    runs = [score(ablation, options.row, seed, options.shards) for seed in ablation.seeds]
    measures = ablation.base(options.row).measures
    scores = {measure: [run[measure] for run in runs] for measure in measures}
    out = options.out or Path("reports/ablation") / f"{options.row}.json"
    content = Scores(options.row, ablation.settings(options.row), ablation.split, ablation.seeds, scores)
    write_atomic(out, msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")
    print(f"written: {out}")


def score(ablation: Ablation, row: str, seed: int, shards: list[str]) -> dict[str, float]:
    """Measure → what one run of the row reaches; the run itself is thrown away. Ends as `fit` on SIGTERM."""
    measures = ablation.base(row).measures
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / f"{row}-{seed}"
        status = fit.main(fit_arguments(ablation, row, seed, shards, run))
        if status:
            sys.exit(status)
        result = evaluated(run, ablation.split, measures)
    return {measure: find(result, measure) for measure in measures}


def fit_arguments(ablation: Ablation, row: str, seed: int, shards: list[str], run: Path) -> list[str]:
    """The command line of one run."""
    settings = [f"{place}={_yaml(value)}" for place, value in ablation.settings(row).items()]
    said = ["--set", *settings] if settings else []
    return ["--shards", *shards, "--run", str(run), "--seed", str(seed), *said]


def _yaml(value: object) -> str:
    """JSON, which is YAML too."""
    return msgspec.json.encode(value).decode()


def evaluated(run: Path, split: str, measures: list[str]) -> object:
    """The result file of `evaluate` on that split, of the tasks that are measured."""
    out = run / "scores.json"
    tasks = sorted({measure.partition(".")[0] for measure in measures})
    evaluate.main(["--run", str(run), "--split", split, "--out", str(out), "--tasks", *tasks])
    return msgspec.json.decode(out.read_bytes())


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
