"""A run's answers scored by GQA's own files: what `evaluate --questions` adds to its result."""

from pathlib import Path
from typing import Any

from contract.errors import MismatchError
from training.evaluation import gqa_files
from training.evaluation.metrics import gqa

SHARES = ("accuracy", "binary", "open", "validity", "plausibility", "consistency")
NOTES = {
    "unanswered": "balanced questions of the files are not in these shards: not scored",
    "entailed_not_in_file": "entailed questions are not in the files, so no consistency: give those of `all`",
    "entailed_unanswered": "entailed questions are not in these shards, so no consistency: "
    "build them with options.questions: all",
}


def scores(predicted: dict[str, str], questions: list[Path], choices: Path | None) -> dict[str, Any]:
    """The `gqa` object of the result file. MismatchError if the files ask nothing that was answered."""
    asked = gqa.ask(gqa_files.read_questions(questions), predicted)
    if not asked.questions:
        raise MismatchError(
            ", ".join(map(str, questions)),
            "holds no balanced question that this run was asked",
            found=f"{len(asked.truth)} questions, {len(asked.unanswered)} of them balanced",
            fix="give the question files of the split that is scored (--split)",
        )
    found = gqa.scores(asked, predicted)
    if choices:
        some = gqa_files.read_choices(choices, asked.questions.keys())
        found |= gqa.within_choices(asked, predicted, some)
    return found


def table(found: dict[str, Any]) -> str:
    """The scores as aligned text, and a line for what keeps one from being the official number."""
    cells = {name: found.get(name) for name in SHARES}
    lines = [f"GQA's own scores, over {found['questions']:,} balanced questions"]
    lines += [f"{name:<18}{100 * cell:>9.1f}%" for name, cell in cells.items() if cell is not None]
    if found["distribution"] is not None:
        lines.append(f"{'distribution':<18}{found['distribution']:>10.2f} (lower is better)")
    lines += [f"note: {found[name]:,} {note}" for name, note in NOTES.items() if found[name]]
    return "\n".join(lines)
