"""GQA's scores by hand, by law and on real questions; `evaluate` with the official files."""

import json
from pathlib import Path

import msgspec
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import FuselineError, MismatchError, ParamsError, RawDataError
from training import evaluate, fit
from training.evaluation import gqa_files, vqa_scores
from training.evaluation.metrics import gqa
from training.evaluation.metrics.gqa import Asked, Choices, Question
from training.evaluation.metrics.vqa import Answered

ANSWERS = ("yes", "no", "red")


def question(answer="yes", structural="verify", group=None, entailed=(), balanced=True, detailed="") -> dict:
    """A member of the official file."""
    return {
        "answer": answer,
        "types": {"structural": structural, "semantic": "attr", "detailed": detailed},
        "groups": {"global": group, "local": ""},
        "isBalanced": balanced,
        "entailed": list(entailed),
        "question": "Is it?",
    }


def asked(questions: dict[str, dict], predicted: dict[str, str]) -> Asked:
    return gqa.ask(msgspec.convert(questions, dict[str, Question]).items(), predicted)


def scored(questions: dict[str, dict], predicted: dict[str, str]) -> dict:
    return gqa.scores(asked(questions, predicted), predicted)


@st.composite
def files(draw):
    """Questions that entail each other, and an answer to each."""
    names = [str(number) for number in range(draw(st.integers(1, 12)))]
    one = st.builds(
        question,
        answer=st.sampled_from(ANSWERS),
        structural=st.sampled_from(["query", "verify", "compare"]),
        group=st.sampled_from([None, "", "colour"]),
        entailed=st.lists(st.sampled_from(names), max_size=4, unique=True),
        balanced=st.booleans(),
    )
    questions = {name: draw(one) for name in names}
    return questions, {name: draw(st.sampled_from(ANSWERS)) for name in names}


@given(files())
def test_the_truth_has_every_score(case):
    questions, _ = case
    truth = {name: one["answer"] for name, one in questions.items()}
    found = scored(questions, truth)
    assert found["distribution"] in (0, None)
    shares = [found[name] for name in ("accuracy", "binary", "open", "consistency")]
    assert set(shares) <= {1, None}
    assert (found["accuracy"] == 1) is any(one["isBalanced"] for one in questions.values())


@given(files())
def test_accuracy_is_the_mean_of_binary_and_open_ones_and_of_the_types(case):
    questions, predicted = case
    found = scored(questions, predicted)
    kinds = [one["types"]["structural"] for one in questions.values() if one["isBalanced"]]
    forms = [found["open" if kind == "query" else "binary"] for kind in kinds]
    types = [found["structural"][kind] for kind in kinds]
    assert found["questions"] == len(kinds)
    for parts in (forms, types):
        assert not parts or sum(parts) / len(parts) == pytest.approx(found["accuracy"], abs=2e-4)


@given(files(), st.randoms(use_true_random=False))
def test_the_order_of_the_file_means_nothing(case, random):
    questions, predicted = case
    order = random.sample(list(questions), len(questions))
    assert scored({name: questions[name] for name in order}, predicted) == scored(questions, predicted)


@given(files())
def test_unbalanced_answers_reach_nothing_but_consistency(case):
    questions, predicted = case
    other = {n: a if questions[n]["isBalanced"] else "something else" for n, a in predicted.items()}
    first, second = scored(questions, predicted), scored(questions, other)
    first.pop("consistency"), second.pop("consistency")
    assert first == second


def test_distribution_by_hand():
    gold = {"a": "red", "b": "red", "c": "red", "d": "blue", "e": "one", "f": "two"}
    groups = dict.fromkeys("abcd", "colour") | {"e": "", "f": None}  # "" is a group, null is none
    said = {"a": "red", "b": "blue", "c": "blue", "d": "green", "e": "two", "f": "one"}
    found = scored({name: question(gold[name], group=groups[name]) for name in gold}, said)
    colour, unnamed = (1 - 3) ** 2 / 3 + (2 - 1) ** 2 / 1, (0 - 1) ** 2 / 1
    assert found["distribution"] == pytest.approx((4 * colour + 1 * unnamed) / 5 / 100, abs=5e-5)


def test_consistency_by_hand():
    questions = {
        "a": question("yes", entailed=["a", "b", "c"]),  # right; one of its two is
        "b": question("no", entailed=["b", "d"]),  # right; its only one is
        "c": question("red", entailed=["a"]),  # wrong: asks nothing
        "d": question("one", entailed=["d"], balanced=False),
    }
    said = {"a": "yes", "b": "no", "c": "blue", "d": "one"}
    assert scored(questions, said)["consistency"] == 0.75


def test_consistency_is_null_where_a_question_is_missing():
    questions = {"a": question(entailed=["b", "c"]), "b": question("no")}
    said = {"a": "yes", "b": "no", "c": "red"}
    found = scored(questions, said)
    assert (found["consistency"], found["entailed_not_in_file"], found["entailed_unanswered"]) == (None, 1, 0)
    found = scored(questions | {"c": question("red")}, {"a": "yes", "b": "no"})
    assert (found["consistency"], found["entailed_not_in_file"], found["entailed_unanswered"]) == (None, 0, 1)
    assert found["unanswered"] == 1
    assert scored(questions, said | {"a": "no"})["consistency"] is None  # nothing right, nothing to look up
    assert scored(questions, said | {"a": "no"})["entailed_not_in_file"] == 0


def test_a_question_of_two_files_is_asked_once():
    both = [("a", msgspec.convert(question(), Question)), ("b", msgspec.convert(question(), Question))] * 2
    found = gqa.scores(gqa.ask(both, {"a": "yes"}), {"a": "yes"})
    assert (found["questions"], found["unanswered"]) == (1, 1)


def test_validity_and_plausibility_by_hand():
    questions = {"a": question("red"), "b": question("red"), "c": question("color", detailed="twoCommon")}
    said = {"a": "blue", "b": "seven", "c": "shape"}
    some = Choices(valid=["red", "blue"], plausible=["red"])
    found = gqa.within_choices(asked(questions, said), said, [(name, some) for name in "abc"])
    assert found == {
        "validity": pytest.approx(2 / 3, abs=1e-4),
        "plausibility": pytest.approx(1 / 3, abs=1e-4),
    }


@pytest.mark.parametrize("file", ["ood_testdev_head.json", "emma/gqa_questions.json"])
def test_real_questions(real_data: Path, file):
    path = real_data / "gqa" / file
    source = json.loads(path.read_bytes())
    said = dict.fromkeys(source, "yes")
    asked = gqa.ask(gqa_files.read_questions([path]), said)
    found = gqa.scores(asked, said)
    gold = [one["answer"] for one in source.values()]
    opened = [one["answer"] for one in source.values() if one["types"]["structural"] == "query"]
    assert found["questions"] == len(gold) and found["unanswered"] == 0
    assert found["accuracy"] == pytest.approx(gold.count("yes") / len(gold), abs=5e-5)
    assert found["open"] == (0 if opened else None)
    truth = {name: one["answer"] for name, one in source.items()}
    found = gqa.scores(asked, truth)
    needed = {e for name, one in source.items() for e in one["entailed"] if e != name}
    assert found["accuracy"] == 1 and found["distribution"] == 0
    assert found["entailed_not_in_file"] == len(needed - source.keys()) > 0 and found["consistency"] is None


BLURRED = 44  # a validation picture that no encoder could take
ASKED = 22  # questions of the other eleven


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A trained run and GQA's files of its 24 validation questions, three with an answer it cannot give."""
    folder = tmp_path_factory.mktemp("gqa")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        known, tokens, write = synthetic.picture, synthetic.features, synthetic.write_shard

        def odd(number):
            record = known(number)
            if number >= 40 and number % 5 == 0:
                record.texts[0].answer = "sideways"
            return record

        def features(number, name):
            return tokens(number, name)[: 0 if number == BLURRED else None]

        def write_shard(path, suffixes, samples):
            for sample in samples:
                sample.absent = sample.key == synthetic.key(BLURRED) and "npy" in suffixes[0]
            return write(path, suffixes, samples)

        patch.setattr(synthetic, "picture", odd)
        patch.setattr(synthetic, "features", features)
        patch.setattr(synthetic, "write_shard", write_shard)
        synthetic.build(folder)
        fit.main(["--run", "runs/a", "--set", "optim.epochs=1"])
        texts = {text.id: text for number in range(40, 52) for text in odd(number).texts}
    questions = {
        name: question(text.answer, "choose", text.text, [name, f"{name[:-1]}{1 - int(name[-1])}"])
        for name, text in texts.items()
    }
    choices = {
        name: {"valid": ["left", "right"], "plausible": ["left", "right", "top", "bottom"]} for name in texts
    }
    (folder / "questions.json").write_text(json.dumps(questions))
    (folder / "choices.json").write_text(json.dumps(choices))
    return folder


def run(*arguments: str) -> dict:
    evaluate.main(["--run", "runs/a", "--out", "scores.json", *arguments])
    return json.loads(Path("scores.json").read_text())


def test_a_run_by_the_official_files(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    result = run(
        "--questions", "questions.json", "--choices", "choices.json", "--predictions", "predictions.json"
    )
    sent = json.loads(Path("predictions.json").read_text())
    official = json.loads(Path("questions.json").read_text())
    assert [set(row) for row in sent] == [{"questionId", "prediction"}] * 24
    assert [row["questionId"] for row in sent] == sorted(official)  # also those of an unknown answer
    assert {row["questionId"] for row in sent if not row["prediction"]} == {"44-0", "44-1"}
    answered, found = result["vqa"], result["gqa"]
    assert (answered["answers_outside_vocabulary"], answered["questions"], answered["unanswered"]) == (
        3,
        ASKED,
        2,
    )
    hits = [official[row["questionId"]]["answer"] == row["prediction"] for row in sent]
    assert found["accuracy"] == round(sum(hits) / 24, 4)
    assert answered["accuracy"] == round(sum(hits) / ASKED, 4)
    assert found["validity"] == round(sum(row["prediction"] in ("left", "right") for row in sent) / 24, 4)
    assert found["plausibility"] == round(ASKED / 24, 4) and found["consistency"] is not None
    assert "by_type" not in result["vqa"]
    rows = json.loads(Path("scores_by_type.json").read_text())
    assert sum(row["questions"] for row in rows) == ASKED
    assert "GQA's own scores, over 24 balanced questions" in capsys.readouterr().out


def test_what_keeps_consistency_from_a_number_is_said(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    every = json.loads(Path("questions.json").read_text())
    ids = sorted(every)
    kept = {name: every[name] for name in ids[:20]} | {"999": question(), "998": question(balanced=False)}
    for one in kept.values():
        one["entailed"] += ["998", ids[-1]]
    Path("some.json").write_text(json.dumps(kept))
    found = run("--questions", "some.json")["gqa"]
    assert (found["questions"], found["unanswered"], found["consistency"]) == (20, 1, None)
    assert (found["entailed_not_in_file"], found["entailed_unanswered"]) == (1, 1)
    assert "validity" not in found
    said = capsys.readouterr().out
    assert "note: 1 entailed questions are not in the files" in said
    assert "note: 1 balanced questions of the files are not in these shards" in said


CUT = '{"40-0": {"answer": "yes"'


@pytest.mark.parametrize(
    ("questions", "choices", "error", "message"),
    [
        (None, None, ParamsError, r"questions\.json: no such file"),
        ("", None, RawDataError, "is empty"),
        (CUT, None, RawDataError, "is not one JSON object"),
        ("[" * 10_000, None, RawDataError, "is not one JSON object"),
        (
            {"1": {"question": "Is it?"}},
            None,
            RawDataError,
            r"questions\.json, 1[\s\S]*`answer`[\s\S]*withhold",
        ),
        ({"1": question()}, None, MismatchError, r"no balanced question that this run[\s\S]*--split"),
        ({"40-0": question(balanced=False)}, None, MismatchError, "no balanced question"),
        ({"40-0": question()}, {}, MismatchError, "lacks the choices[\\s\\S]*1 of 1 missing, such as 40-0"),
        ({"40-0": question()}, {"40-0": {"valid": 1}}, RawDataError, r"choices\.json, 40-0"),
    ],
)
def test_a_file_that_does_not_fit_is_one_clear_error(
    project, monkeypatch, tmp_path, questions, choices, error, message
):
    monkeypatch.chdir(project)
    arguments = ["--questions", str(write(tmp_path / "questions.json", questions))]
    if choices is not None:
        arguments += ["--choices", str(write(tmp_path / "choices.json", choices))]
    with pytest.raises(error, match=message):
        run(*arguments)


def write(path: Path, content) -> Path:
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_choices_alone_are_refused(project, monkeypatch):
    monkeypatch.chdir(project)
    with pytest.raises(ParamsError, match="goes with --questions"):
        run("--choices", "choices.json")


def test_two_questions_of_one_id_cannot_be_told_apart():
    with pytest.raises(FuselineError, match="1 ids of 2 questions"):
        vqa_scores.by_id(Answered(["7", "7"], ["", ""], ["a", "b"], {"accuracy": ["a", "b"]}))
