"""GQA's own scores, as `eval.py` of the GQA site computes them (Hudson and Manning, CVPR 2019).

All are over balanced questions; only the questions that consistency looks up may be others. An answer is
right when it is the same string. Grounding is left out: it scores attention over the picture, which not every
fusion has. Shares are in [0, 1], 4 decimals; null where nothing was asked.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from math import fsum
from typing import Any

from msgspec import Struct, field

BINARY, OPEN = "binary", "open"
COMMON = ("color", "material", "shape")  # what two things can have in common


class Types(Struct):
    structural: str  # query | verify | logical | choose | compare
    semantic: str  # rel | attr | obj | cat | global
    detailed: str


class Groups(Struct):
    """of_all: over the whole dataset, the unit of `distribution`; "" is a group, null is none."""

    of_all: str | None = field(name="global", default=None)


class Question(Struct):
    """A question of the official file, as far as it is scored."""

    answer: str
    types: Types
    groups: Groups
    balanced: bool = field(name="isBalanced")
    entailed: list[str] = []  # questions whose answers follow from this one, itself included


class Choices(Struct):
    """Answers that make sense for a question: of its kind (valid), and seen of its object (plausible)."""

    valid: list[str]
    plausible: list[str]


class Asked(Struct):
    """A question file beside a model's answers.

    questions: the balanced ones that were answered, by id. truth: the answer of every question of the file.
    unanswered: the balanced ones that were not.
    """

    questions: dict[str, Question]
    truth: dict[str, str]
    unanswered: set[str]


def ask(questions: Iterable[tuple[str, Question]], predicted: Mapping[str, str]) -> Asked:
    """What a model's answers (by question id) can be scored on. A question that comes twice is asked once."""
    asked = Asked({}, {}, set())
    for name, question in questions:
        asked.truth[name] = question.answer
        if question.balanced and name in predicted:
            asked.questions[name] = question
        elif question.balanced:
            asked.unanswered.add(name)
    return asked


def scores(asked: Asked, predicted: Mapping[str, str]) -> dict[str, Any]:
    """Accuracy in all, of binary and open questions and per type; consistency; distribution."""
    right = {name: predicted[name] == question.answer for name, question in asked.questions.items()}
    forms = _accuracies(asked, right, form)
    return {
        "questions": len(right),
        "unanswered": len(asked.unanswered),
        "accuracy": _share(right.values()),
        BINARY: forms.get(BINARY),
        OPEN: forms.get(OPEN),
        **consistency(asked, right, predicted),
        "distribution": distribution(asked, predicted),
        "structural": _accuracies(asked, right, lambda question: question.types.structural),
        "semantic": _accuracies(asked, right, lambda question: question.types.semantic),
    }


def form(question: Question) -> str:
    """Open questions are those that query; to all others the answer is one of two."""
    return OPEN if question.types.structural == "query" else BINARY


def consistency(asked: Asked, right: Mapping[str, bool], predicted: Mapping[str, str]) -> dict[str, Any]:
    """Of each question answered right, the share of the questions it entails that are too; the mean of those.

    Null where an entailed question is not in the file (`entailed_not_in_file`) or was not answered
    (`entailed_unanswered`): the mean over the others would be another score.
    """
    entailed = [
        others
        for name, question in asked.questions.items()
        if right[name] and (others := [other for other in question.entailed if other != name])
    ]
    needed = {name for others in entailed for name in others}
    absent, unanswered = needed - asked.truth.keys(), needed - predicted.keys()
    shares = [
        sum(predicted[name] == asked.truth[name] for name in others) / len(others)
        for others in (() if absent or unanswered else entailed)
    ]
    return {
        "consistency": _share(shares),
        "entailed_not_in_file": len(absent),
        "entailed_unanswered": len(unanswered),
    }


def distribution(asked: Asked, predicted: Mapping[str, str]) -> float | None:
    """How far the answers' frequencies are from the true ones, 0 the same, lower is better; no share.

    Per group of questions the chi-square Σ (observed − expected)² / expected over the true answers; the mean
    of the groups, weighted by their questions, over 100.
    """
    expected: defaultdict[str, Counter[str]] = defaultdict(Counter)
    observed: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name, question in asked.questions.items():
        if question.groups.of_all is not None:
            expected[question.groups.of_all][question.answer] += 1
            observed[question.groups.of_all][predicted[name]] += 1
    if not expected:
        return None
    weighted = fsum(_chi_square(observed[group], true) * true.total() for group, true in expected.items())
    return round(weighted / sum(true.total() for true in expected.values()) / 100, 4)


def _chi_square(observed: Counter[str], expected: Counter[str]) -> float:
    return fsum((observed[answer] - count) ** 2 / count for answer, count in expected.items())


def within_choices(
    asked: Asked, predicted: Mapping[str, str], choices: Iterable[tuple[str, Choices]]
) -> dict[str, float | None]:
    """`validity` and `plausibility`: the share of answers among a question's valid, and plausible, choices.

    choices: those of every question asked, in any order. What two things have in common is one of COMMON.
    """
    valid, plausible = [], []
    for name, choice in choices:
        common = "Common" in asked.questions[name].types.detailed
        valid.append(predicted[name] in (COMMON if common else choice.valid))
        plausible.append(predicted[name] in (COMMON if common else choice.plausible))
    return {"validity": _share(valid), "plausibility": _share(plausible)}


def _accuracies(
    asked: Asked, right: Mapping[str, bool], kind: Callable[[Question], str]
) -> dict[str, float | None]:
    """The accuracy of each kind of question, by its name."""
    kinds: defaultdict[str, list[bool]] = defaultdict(list)
    for name, question in asked.questions.items():
        kinds[kind(question)].append(right[name])
    return {name: _share(kinds[name]) for name in sorted(kinds)}


def _share(values: Iterable[float]) -> float | None:
    values = list(values)
    return round(fsum(values) / len(values), 4) if values else None
