"""`python -m training.results`: what the demo built, where it lies, how it scored, and what to try next."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from contract import manifest
from contract.codec import UNDECODABLE
from contract.errors import MismatchError, ParamsError, run_command
from contract.manifest import DataManifest
from training import blindness
from training.evaluation import scored, vqa_scores
from training.evaluation.scorers import SCORERS

EVALUATION, BY_TYPE = Path("reports/evaluate.json"), Path("reports/vqa_by_type.json")
BLIND = Path("runs/blind")
BUILT = {
    "raw/demo": "the generated world: pictures, annotations, planted defects",
    "weights/demo": "two small encoders, trained on it and frozen",
    "features": "their tokens, a column per encoder",
    "negatives": "nearest pictures of each picture",
    "data": "record shards: texts, spans, boxes",
    "runs/demo": "the trained model",
    "runs/blind": "the same without eyes",
    "reports": "open reports/dataset.html in a browser",
}
NEXT = """\
What to try next (once: . .venv/bin/activate)
  dvc repro                                                        nothing to do: everything is up to date
  python -m data_pipeline show data/gqa-000.tar                    what is in a shard; add a KEY to see it
  python -m training.fit --shards 'data/gqa-<000..099>.tar'        train your own (the quotes are needed)
  python -m training.evaluate --run runs/demo --split testdev      score a run
{predict}\
  dvc metrics show                                                 the scores; dvc plots show: the curves
Your own data: edit params.yaml (README, "Your own data")."""
PREDICT = "  python -m training.predict --run runs/demo --image {image} {asked}\n"
ASKED = {"vqa": '--question "What color is the ball?"', "itm": '--text "a red ball"'}

EXAMPLES = """\
examples:
  python -m training.results        after dvc repro, in the project's folder
"""


def main(arguments: list[str]) -> None:
    """Print the summary of what lies in the working directory."""
    argparse.ArgumentParser(
        prog="python -m training.results",
        description="What the demo built, how it scored, what to try next.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args(arguments)
    scores = _evaluated(EVALUATION, dict[str, str | dict[str, Any]])
    by_type = _evaluated(BY_TYPE, list[vqa_scores.OfType])
    if not isinstance(scores.get("split"), str):
        raise _damaged(EVALUATION, "it names no split")
    try:
        told = "\n\n".join(tables(scores, by_type))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(EVALUATION, f"not the scores of this version ({error!r})") from None
    print(f"\nBuilt\n{built()}\n\nIn data/\n{contents()}")
    print(f"\nOn held-out pictures (split {scores['split']})\n{told}")
    print(f"\n{NEXT.format(predict=predict(scores))}")


def _evaluated(path: Path, kind: Any) -> Any:
    """What stage `evaluate` wrote there."""
    if not path.is_file():
        raise ParamsError(path, "no such file", fix="build it: dvc repro")
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except UNDECODABLE as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, why: object) -> MismatchError:
    return MismatchError(path, f"is damaged: {why}", fix="build it anew: dvc repro")


def tables(scores: Mapping[str, Any], by_type: list[dict[str, Any]]) -> list[str]:
    """The scores of each task beside its chance or baselines."""
    return [
        vqa_scores.table(scores[task], by_type)
        if task == "vqa"
        else scored.table(task, scored.sections(scores[task]))
        for task in SCORERS
        if task in scores
    ]


def predict(scores: Mapping[str, Any]) -> str:
    """The line of a command that asks the run, of a task that answers about a picture file."""
    asked = next((words for task, words in ASKED.items() if task in scores), None)
    return PREDICT.format(image=first_image(), asked=asked) if asked else ""


def built() -> str:
    """One line per folder: size and meaning."""
    none = blindness.read(BLIND)
    means = BUILT | ({str(BLIND): none.said} if none else {})
    sizes = {name: size(Path(name)) for name in means}
    return "\n".join(f"  {name:<14}{sizes[name] / 1e6:>9,.1f} MB  {means[name]}" for name in means)


def size(folder: Path) -> int:
    """Bytes of all files below."""
    return sum((Path(place) / name).stat().st_size for place, _, names in os.walk(folder) for name in names)


def contents() -> str:
    """One line per dataset and split: shards, pictures, texts that a task can use."""
    totals: dict[str, Counter[str]] = {}
    for facts in manifest.load(Path("data"), DataManifest).shards.values():
        total = totals.setdefault(f"{facts.dataset} {facts.split}", Counter())
        total.update({"shards": 1, "pictures": facts.samples, "questions": facts.texts.get("vqa", 0)})
    return "\n".join(
        f"  {name:<24}{t['shards']:>4} shards{t['pictures']:>8,} pictures{t['questions']:>8,} questions"
        for name, t in totals.items()
    )


def first_image() -> str:
    """A held-out picture to ask about."""
    pictures = sorted(Path("raw/demo/gqa/images").glob("*.jpg"))
    return str(pictures[-1]) if pictures else "x.jpg"


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
