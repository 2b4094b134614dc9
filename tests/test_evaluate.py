"""`evaluate` of a run of every task: what it reads and writes, whatever the batch."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import every_task
import numpy as np
import pytest
import statements
import synthetic
import synthetic_tasks
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from contract import manifest
from contract.errors import MismatchError, ParamsError, ShardError
from contract.manifest import DataManifest
from contract.record import Near, Record, Text, TextNegatives
from training import blindness, evaluate, fit, run
from training.batching.needs import Need, need
from training.config import Masking
from training.evaluation import (
    cir_scores,
    itc_scores,
    itm_scores,
    mfm_scores,
    region_scores,
    scored,
    vqa_scores,
)
from training.evaluation.held_out import HeldOut, Picture, ring, shuffled
from training.evaluation.partners import next_texts
from training.evaluation.scored import Section, pool
from training.evaluation.scorers import SCORERS
from training.model.tasks import TASKS
from training.shards import Place, open_shards

OWN_FILES = {name for name in run.OWN if name.endswith(".json")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run of every task, a few steps long, and its blind twin for the questions."""
    made = tmp_path_factory.mktemp("every")
    every_task.build(made)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        fit.main(["--run", "runs/a", "--set", every_task.TASKS, *every_task.MASK])
        fit.main(["--run", "runs/blind", "--blind"])
    return made


@pytest.fixture
def project(folder, monkeypatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def scores(*arguments: str, name: str = "runs/a") -> dict:
    evaluate.main(["--run", name, "--out", "scores.json", *arguments])
    return json.loads(Path("scores.json").read_text())


def held(batch: int = 5) -> HeldOut:
    known = run.open_run(Path("runs/a"))
    shards = open_shards(["data"], ["vit", "esam"], split="val")
    return HeldOut(known, run.trained_model(known, "best").eval(), shards, batch, torch.device("cpu"))


def test_every_task_is_scored_and_shown(project, capsys):
    found = scores("--blind", "runs/blind")
    assert list(found) == ["run", "split", *TASKS]
    assert found["vqa"]["questions"] == 24 and found["vqa"]["blind"] is not None
    assert found["itc"]["text_to_picture"]["texts"] == 12 == found["itc"]["picture_to_text"]["pictures"]
    assert found["itm"]["random"]["chance"]["text_auc"] == 0.5
    assert found["itm"]["swapped"] == found["itm"]["swapped_side"]
    assert found["region"]["matching"]["chance"] == {"accuracy": 0.5}
    assert found["region"]["one_of_n"]["chance"] == {"accuracy": 0.25}
    assert "changed" not in found["region"]  # only the statements have changed texts
    assert (found["cir"]["queries"], found["cir"]["gallery"]) == (12, 12)
    assert found["cir"]["chance"]["R_s@1"] == pytest.approx(1 / 3, abs=1e-4)
    assert found["mfm"]["explained"] is not None and found["mfm"]["hidden_tokens"] > 0
    shown = capsys.readouterr().out
    assert all(f"\n{task} " in shown for task in list(TASKS)[1:]) and "R_s@1" in shown


def test_the_batch_size_changes_nothing(project):
    first, again = (scores("--batch", batch) for batch in ("1", "64"))
    assert first == again


def test_every_task_has_a_scorer():
    assert SCORERS.keys() == TASKS.keys()


def test_some_of_the_tasks(project):
    assert list(scores("--tasks", "itm", "cir")) == ["run", "split", "itm", "cir"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "vqq"], "unknown task of this run 'vqq'[\\s\\S]*did you mean 'vqa'"),
        (["--tasks", "itm", "--blind", "runs/blind"], "--blind: goes with vqa"),
        (["--tasks", "vqa", "--submission", "x"], "--submission: goes with cir"),
        (["--tasks", "cir", "--predictions", "x"], "--predictions: goes with vqa"),
        (["--blind", "runs/a"], "is not blind"),
    ],
)
def test_a_users_mistake_is_one_clear_error(project, arguments, message):
    with pytest.raises(ParamsError, match=message):
        scores(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "data"], "data: is a folder"),
        (["--out", "."], "is a folder"),
        (["--out", "params.yaml/a/x.json"], "cannot be written[\\s\\S]*params.yaml: Not a directory"),
        (["--submission", "params.yaml"], "cannot be written[\\s\\S]*params.yaml: Not a directory"),
        (["--out", "x.json", "--predictions", "x.json"], "x.json: has the name of another file"),
        (["--out", "x.json", "--by-type", "there/../x.json"], "x.json: has the name of another file"),
        (["--out", "x.json", "--predictions", "x_by_type.json"], "has the name of another file"),
        (["--out", "x", "--predictions", "x/y.json"], "x/y.json[^\\n]*lies in one"),
        (["--out", "s/recall.json", "--submission", "s"], "has the name of another file"),
        *((["--out", f"runs/a/{name}"], "has the name of another file") for name in sorted(OWN_FILES)),
        *((["--out", f"runs/a/{name}/x.json"], "lies in one") for name in sorted({*run.OWN} - OWN_FILES)),
        *(
            (["--blind", "runs/b", "--out", f"runs/b/{name}"], "has the name of another file")
            for name in (run.OWN[0], blindness.FILE)
        ),
        (["--out", "params.yaml", "--questions", "params.yaml"], "has the name of another file"),
    ],
)
def test_where_results_go_is_checked_before_anything_is_opened(project, arguments, message):
    with pytest.raises(ParamsError, match=message):
        evaluate.main(["--run", "runs/a", "--shards", "nowhere", *arguments])


def test_why_there_is_no_blind_run_is_not_overwritten(project):
    """Of tasks that none can be trained for, `--blind` names a folder that holds no run but this file."""
    options = evaluate.parser().parse_args(["--run", "runs/a"])
    with pytest.raises(ParamsError, match="has the name of another file"):
        evaluate._check_files(options, [Path("runs/none", blindness.FILE)], Path("runs/none"))


def test_a_shard_of_another_split_is_refused_with_a_fix_that_evaluate_has(project):
    with pytest.raises(ShardError, match="is of split 'train'[\\s\\S]*name its split by --split") as told:
        scores("--shards", "data/toy-000.tar")
    assert "--allow-split" not in str(told.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_cannot_be_written_to_is_said(project, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ParamsError, match="cannot be written"):
        evaluate.main(["--run", "runs/a", "--shards", "nowhere", "--out", str(tmp_path / "x.json")])


def test_some_tasks_have_a_result_file_of_their_own_and_replacing_one_is_said(project, capsys):
    for done in ("written", "replaced"):
        evaluate.main(["--run", "runs/a", "--tasks", "itc"])
        assert f"\n{done}: evaluations/a-val-itc.json\n" in capsys.readouterr().out


@pytest.mark.parametrize("batch", ["0", "-3", "many"])
def test_a_batch_is_a_number(project, batch, capsys):
    with pytest.raises(SystemExit):
        scores("--batch", batch)
    assert "1 or more" in capsys.readouterr().err


def test_progress_is_told_in_plain_lines_without_a_terminal(project, monkeypatch, capsys):
    monkeypatch.setattr("training.evaluation.progress.PLAIN_EVERY", 0.0)
    scores("--tasks", "itc", "--batch", "5")
    assert "itc toy: 10 of 12 pictures" in capsys.readouterr().err


@given(st.integers(1, 40), st.integers(1, 50))
def test_behind_every_picture_of_the_ring_stands_the_same_other_one(count, batch):
    pictures = [Picture(Place(0, n), str(n), str(n), [], False) for n in range(count)]
    rows = [int(picture.key) for picture in ring(pictures, batch)]
    blocks = [rows[at : at + batch + 1] for at in range(0, len(rows), batch + 1)]
    pairs = [pair for block in blocks for pair in zip(block, block[1:], strict=False)]
    assert pairs == [(n, (n + 1) % count) for n in range(count)]


def test_the_ring_is_in_one_random_order(project):
    found = held().pictures(vqa_scores.is_question)["toy"]
    keys = [picture.key for picture in shuffled(found, "toy")]
    assert keys == [picture.key for picture in shuffled(found, "toy")]
    assert sorted(keys) == [picture.key for picture in found] != keys
    assert keys != [picture.key for picture in shuffled(found, "other")]


def test_a_vector_is_of_its_own_text_and_picture_whatever_the_batch(project):
    pictures = held().pictures(itc_scores.is_pair)["toy"]
    alone, together = (itc_scores.vectors(held(batch), "toy", pictures) for batch in (1, 12))
    torch.testing.assert_close(alone.text, together.text)
    torch.testing.assert_close(alone.picture, together.picture)
    assert together.identity.text_picture.tolist() == list(range(12))


def in_turn(one: HeldOut) -> list[Picture]:
    return itm_scores.in_turn(one.pictures(itm_scores.is_pair)["toy"], "toy")


def test_itm_equals_a_naive_loop(project):
    """Each pair alone in its batch, by the model's own head. Pictures of one quadrant have the same
    statement, and are no wrong partners of each other.
    """
    one = held()
    pictures = in_turn(one)
    words = np.array([picture.texts[0].text for picture in pictures])
    after = next_texts(np.arange(len(words)), words[:, None] == words)
    random = itm_scores.join(part["random"] for part in itm_scores.judged(one, "toy", pictures))
    false = [(pictures[row], pictures[other]) for row, other in enumerate(after) if other >= 0]
    assert len(random.own) == len(false) > 0
    wrong = [odds(one, other, mine.texts[0]) for mine, other in false]
    np.testing.assert_allclose(random.wrong_picture, wrong, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(random.own, [odds(one, mine, mine.texts[0]) for mine, _ in false], 1e-3, 1e-5)
    wrong = [odds(one, mine, other.texts[0]) for mine, other in false]
    np.testing.assert_allclose(random.wrong_text, wrong, rtol=1e-3, atol=1e-5)


def with_more_statements(number: int, record: Record) -> Record:
    """Every third picture has two more, by which words and pictures could be told."""
    record = every_task.with_all(number, record)
    word = ["left", "right", "top", "bottom"][number // 3 % 4]
    words = [f"{word} ? {word}", f"or {word}"] * (number % 3 == 0)
    more = [
        Text(id=f"{number}-{place}-more", role="statement", text=text, tokens=synthetic_tasks.tokens(text))
        for place, text in enumerate(words)
    ]
    return structs.replace(record, texts=[*record.texts, *more])


def test_pictures_of_as_many_texts_are_asked_together(project):
    """Beside others, the last texts of a picture have no partner."""
    every_task.build(project / "uneven", change=with_more_statements)
    one = structs.replace(held(), shards=open_shards(["uneven/data"], ["vit", "esam"], split="val"))
    counts = [len(picture.texts) for picture in in_turn(one)]
    assert counts == sorted(counts, reverse=True) and len(set(counts)) > 1


@pytest.mark.parametrize("looks", ["text", "picture"])
def test_who_looks_at_texts_or_at_pictures_alone_is_at_chance_in_random_pairs(project, monkeypatch, looks):
    def logits(shared, text, picture):
        states = shared.text[text, 0] if looks == "text" else shared.picture[picture].mean(1)
        return torch.stack([torch.zeros(len(text)), states[:, 0]], 1)

    every_task.build(project / "uneven", change=with_more_statements)
    one = structs.replace(held(), shards=open_shards(["uneven/data"], ["vit", "esam"], split="val"))
    monkeypatch.setattr(one.model.heads["itm"], "logits", logits)
    found = itm_scores.section(
        itm_scores.join(part["random"] for part in itm_scores.judged(one, "toy", in_turn(one))), {}
    )
    assert {found.values[name] for name in found.chance} == {0.5} and found.counts["pairs"] > 12


def statement_sides(one: HeldOut) -> dict[str, itm_scores.Sides]:
    """All pairs of the split by their kind."""
    parts = list(itm_scores.judged(one, "toy", in_turn(one)))
    return {name: itm_scores.join(part[name] for part in parts) for name in ("random", "mined", "swapped")}


def test_the_wording_of_a_change_is_asked_of_pictures_that_the_text_is_false_of(project):
    """Each picture has one text and one change of it, so these are the random wrong pairs."""
    found = statement_sides(held())
    assert len(found["swapped"].changed_elsewhere) == len(found["random"].own) < len(found["swapped"].own)
    np.testing.assert_allclose(
        found["swapped"].elsewhere, found["random"].wrong_picture, rtol=1e-5, atol=1e-6
    )


def test_the_mined_partner_is_another_picture_with_other_words(project):
    """The nearest picture is the next one; one of these is a copy with a statement of its own."""
    words = [synthetic_tasks.quadrant(synthetic.cell(number)) for number in range(40, 52)]
    false = [a != b for a, b in zip(words, words[1:] + words[:1], strict=True)]
    first = 40 + false.index(True)

    def copied(number: int, record: Record) -> Record:
        record = every_task.with_all(number, record)
        return structs.replace(record, group=f"toy:{first}") if number == first + 1 else record

    every_task.build(project / "copied", change=copied)
    one = structs.replace(held(), shards=open_shards(["copied/data"], ["vit", "esam"], split="val"))
    assert len(statement_sides(one)["mined"].own) == sum(false) - 1 > 0


def nearest(number: int) -> int:
    """The next of the held-out pictures whose statement is another."""
    words = synthetic_tasks.quadrant(synthetic.cell(number))
    others = [40 + (number - 40 + step) % 12 for step in range(1, 12)]
    return next(other for other in others if synthetic_tasks.quadrant(synthetic.cell(other)) != words)


def near(record: Record) -> dict[str, TextNegatives]:
    """Of each statement of a held-out picture the nearest."""
    number = int(record.id[1:])
    if number < 40:
        return {}
    other = nearest(number)
    words = synthetic_tasks.quadrant(synthetic.cell(other))
    said = Near([synthetic.key(other)], [f"{other}-where"], [0.5], [words], [synthetic_tasks.tokens(words)])
    return {f"{number}-where": TextNegatives(said)}


def test_the_mined_text_is_asked_of_the_picture_that_it_was_mined_for(project):
    (project / "near").mkdir()
    synthetic.build(project / "near", shards=2, change=every_task.with_all, false=near)
    one = structs.replace(held(), shards=open_shards(["near/data"], ["vit", "esam"], split="val"))
    pictures = in_turn(one)
    by_number = {int(picture.key[1:]): picture for picture in pictures}
    wrong = [odds(one, mine, by_number[nearest(int(mine.key[1:]))].texts[0]) for mine in pictures]
    found = itm_scores.join(part["mined_text"] for part in itm_scores.judged(one, "toy", pictures))
    np.testing.assert_allclose(found.wrong_text, wrong, rtol=1e-3, atol=1e-5)


def odds(one: HeldOut, picture: Picture, text: Text) -> float:
    """The log-odds of a picture and a text, alone."""
    need = Need(None, lambda found: found.role == "statement")
    (batch,) = one.batches("itm", "toy", [picture], need, change=statements.Always(text))
    shared, zero = one.model.trunk(batch), torch.zeros(1, dtype=torch.int64)
    false, true = one.model.heads["itm"].logits(shared, zero, zero)[0].tolist()
    return true - false


def test_wording_that_gives_a_change_away_is_its_baseline():
    """Log-odds that hang on the text alone: AUC 1, and so is that of other pictures."""
    yes, no = np.full(5, 2.0), np.full(5, -2.0)
    found = itm_scores.section(itm_scores.Sides(yes, wrong_text=no, elsewhere=yes, changed_elsewhere=no), {})
    assert found.values["text_auc"] == found.chance["text_auc"] == 1
    assert "wrong_picture" not in found.values and "picture_auc" not in found.values


def test_the_shares_of_right_answers_by_hand():
    """Log-odds of 0 are a no: wrong of a text's own picture, right of a wrong pair."""
    own, picture, text = ([1, -1, 2, 0, 1], [-1, -1, 0, 1], [-1, -2, -3, 0, 2])
    found = itm_scores.section(itm_scores.Sides(*map(np.array, (own, picture, text))), {})
    shares = {name: found.values[name] for name in ("own", "wrong_picture", "wrong_text")}
    assert shares == pytest.approx({"own": 3 / 5, "wrong_picture": 3 / 4, "wrong_text": 4 / 5})


def test_random_log_odds_are_at_chance():
    random = np.random.default_rng(2)
    sides = itm_scores.Sides(*(random.normal(size=4000) for _ in range(3)))
    found = itm_scores.section(sides, {})
    for name, chance in found.chance.items():
        assert found.values[name] == pytest.approx(chance, abs=0.04)


def test_region_equals_a_naive_loop(project):
    one = held()
    pictures = one.pictures(region_scores.is_region)["toy"]
    found = region_scores.asks(one, "toy", pictures)
    right = []
    for picture in pictures:
        (batch,) = one.batches("region", "toy", [picture], need("region"), text_negatives=10)
        pairs, told = one.model.heads["region"].compared(one.model.trunk(batch), batch)
        best = [
            float(row[own].max()) > float(row[~own].max())
            for row, own in zip(pairs.cosine, pairs.linked, strict=True)
        ]
        right += best
        assert told.real[:, 0].all() and told.cosine.shape == (2, 11)
    assert np.concatenate([choice.right for choice in found["matching"].choices]).sum() == sum(right)


def test_what_is_cut_at_max_tokens_is_said(project, capsys):
    """Of two words a model reads the first; a phrase that ends behind it is left out."""
    narrow = ["model.max_tokens=1", "optim.epochs=0.2"]
    fit.main(["--run", "runs/narrow", "--set", "tasks={vqa: {}, itc: {}, region: {}}", *narrow])
    found = scores("--tasks", "vqa", "itc", "region", name="runs/narrow")
    assert (found["vqa"]["texts_cut"], found["itc"]["text_to_picture"]["texts_cut"]) == (24, 12)
    assert capsys.readouterr().out.count("texts are longer than the model reads") == 3


def test_phrases_beyond_what_the_model_reads_are_counted():
    spans = Text(
        id="a",
        role="caption",
        text="",
        tokens=[1] * 4,
        span_chars=[(0, 1)] * 3,
        span_tokens=[(0, 2), (2, 4), (3, 4)],
        span_regions=[[0], [1], []],
    )
    assert [region_scores.beyond([spans], most) for most in (1, 2, 3, 4)] == [2, 1, 1, 0]


def with_crowds(*crowd: int):
    """Of each picture these regions are crowds."""

    def change(number: int, record: Record) -> Record:
        record = every_task.with_all(number, record)
        return structs.replace(record, regions=structs.replace(record.regions, crowd=list(crowd)))

    return change


def test_no_text_is_asked_of_a_crowd(project, capsys):
    every_task.build(project / "crowd", change=with_crowds(1))
    found = scores("--shards", "crowd/data", "--tasks", "region")["region"]
    assert (found["matching"]["phrases"], found["one_of_n"]["texts"]) == (36, 12)
    assert found["matching"]["without_box"] == found["one_of_n"]["without_box"] == 12
    assert "note: 12 phrases are left out: their box is a crowd" in capsys.readouterr().out


def test_a_task_of_which_nothing_is_left_has_no_result(project, capsys):
    every_task.build(project / "crowds", change=with_crowds(0, 1))
    assert list(scores("--shards", "crowds/data", "--tasks", "itc", "region")) == ["run", "split", "itc"]
    assert "region: its texts ask nothing" in capsys.readouterr().err
    with pytest.raises(ShardError, match="nothing to score"):
        scores("--shards", "crowds/data", "--tasks", "region")


def test_one_picture_has_no_other_to_compare_with(project):
    every_task.build(project / "one", train=4, val=1)
    found = scores("--shards", "one/data", "--tasks", "vqa", "itm")
    assert found["vqa"]["accuracy"] is not None and found["vqa"]["shuffled_pictures"] is None
    assert all("shuffled_pictures" not in row for row in json.loads(Path("scores_by_type.json").read_text()))
    assert "random" not in found["itm"] and "mined" not in found["itm"]
    assert found["itm"]["swapped"]["text_auc"] is not None
    assert found["itm"]["swapped"]["chance"] == {"text_accuracy": None, "text_auc": None}


def test_mfm_beside_the_mean_of_what_is_visible():
    features = torch.randn(2, 17, 8)
    hidden = torch.zeros(2, 17, dtype=torch.bool)
    hidden[:, 3:6] = True
    visible = ~hidden
    part = SimpleNamespace(tokens_of={"vit": features}.get, visible={"vit": visible}, hidden={"vit": hidden})
    wanted = 0.0
    for picture in range(2):
        normal = torch.nn.functional.layer_norm(features[picture], (8,))
        guess = normal[visible[picture]].mean(0)
        wanted += sum(float((guess - normal[token]).square().mean()) for token in range(3, 6))
    assert mfm_scores.mean_error(part, "vit") == pytest.approx(wanted, rel=1e-5)


def test_the_mask_is_that_of_the_end_of_training():
    assert Masking(ratio=0.2, ratio_end=0.6).at_end == Masking(ratio=0.6)
    assert Masking(ratio=0.2).at_end == Masking(ratio=0.2)


def withheld(number: int, record: Record) -> Record:
    """As test splits come: no answer, no target; and one edit without a word, as CIRR's test1 has."""
    record = every_task.with_all(number, record)
    for text in record.texts:
        text.answer, text.target = None, []
        if text.role == "edit" and number == 41:
            text.text, text.tokens = "", []
    return structs.replace(record, id=f"{record.id}.jpg")


@pytest.fixture(scope="module")
def hidden(folder) -> Path:
    every_task.build(folder / "test", change=withheld)
    return folder / "test/data"


def test_questions_without_answers_are_predicted(project, hidden):
    found = scores("--shards", str(hidden), "--predictions", "said.json", "--tasks", "vqa")["vqa"]
    assert (found["accuracy"], found["questions"], found["answers_withheld"]) == (None, 0, 24)
    sent = json.loads(Path("said.json").read_text())
    assert [row["questionId"] for row in sent] == sorted(f"{n}-{m}" for n in range(40, 52) for m in (0, 1))
    known = scores("--predictions", "known.json", "--tasks", "vqa")["vqa"]
    assert known["questions"] == 24
    assert sent == json.loads(Path("known.json").read_text())


def test_edits_without_targets_are_submitted_by_the_datasets_names(project, hidden):
    found = scores("--shards", str(hidden), "--submission", "server", "--tasks", "cir")["cir"]
    assert (found["queries"], found["targets_withheld"], found["gallery"]) == (0, 12, 12)
    whole, subset = (
        json.loads(Path("server", f"{name}.json").read_text()) for name in ("recall", "recall_subset")
    )
    assert (whole["version"], whole["metric"], subset["metric"]) == ("rc2", "recall", "recall_subset")
    for number in range(40, 52):
        first = number - number % 4
        others = {f"p{n:04d}.jpg" for n in range(first, first + 4) if n != number}
        assert set(subset[f"{number}-edit"]) == others
        assert len(whole[f"{number}-edit"]) == 11 and f"p{number:04d}.jpg" not in whole[f"{number}-edit"]


def with_a_note(number: int, record: Record) -> Record:
    """As CIRR's `captions_ext` gives them beside an edit."""
    record = every_task.with_all(number, record)
    note = Text(id=f"{number}.ext0", role="edit", text="left", tokens=[2], type="ext/0")
    return structs.replace(record, texts=[note, *record.texts])


def test_notes_are_no_queries(project):
    every_task.build(project / "noted", change=with_a_note)
    found = scores("--shards", "noted/data", "--submission", "server", "--tasks", "cir")["cir"]
    assert (found["queries"], found["targets_withheld"]) == (12, 0)
    sent = json.loads(Path("server/recall_subset.json").read_text())
    assert sent.keys() == {"version", "metric", *(f"{number}-edit" for number in range(40, 52))}


def test_a_submission_is_scored_as_the_run_is(project):
    """R@K of the ranks in the files is R@K of the result."""
    found = scores("--submission", "server", "--tasks", "cir")["cir"]
    whole = json.loads(Path("server/recall.json").read_text())
    targets = {f"{n}-edit": synthetic.key(n - n % 4 + (n % 4 == 0)) for n in range(40, 52)}
    for k in (1, 5, 10):
        hits = [target in whole[name][:k] for name, target in targets.items()]
        assert found[f"R@{k}"] == pytest.approx(sum(hits) / 12, abs=1e-4)


LOST = {"toy": {"val": {"edit": 2, "picture": 1, "question": 3}, "": {"edit": 1}, "train": {"edit": 9}}}


@pytest.fixture
def lose(project):
    """Make the manifest say that the pipeline rejected this."""
    path = Path("data", manifest.NAME)
    whole, known = path.read_bytes(), manifest.load(path.parent, DataManifest)
    yield lambda missing: manifest.save(path.parent, structs.replace(known, missing=missing))
    path.write_bytes(whole)


def test_what_the_pipeline_rejected_of_the_split_is_said(lose, capsys):
    lose(LOST | {"other": {"val": {"picture": 7}}})
    found = scores("--predictions", "said.json", "--submission", "server")
    assert found["missing"] == {"toy": {name: LOST["toy"][name] for name in ("val", "")}}
    shown = capsys.readouterr()
    assert [line for line in shown.err.splitlines() if "rejected" in line] == [
        f"note: {what} rejected by the pipeline: in no shard, in no score"
        for what in ("toy val: 1 picture, 2 edits and 3 questions", "toy, split unknown: 1 edit")
    ]
    edits = "it lacks 1 picture and 2 edits of toy val, and 1 edit of toy, split unknown, which the pipeline"
    for name, lacks in (
        ("server/recall.json", edits),
        ("server/recall_subset.json", edits),
        ("said.json", "it lacks 3 questions of toy val, which the pipeline"),
    ):
        assert f": {name}; {lacks} rejected\n" in shown.out
    assert "scores.json\n" in shown.out


def test_a_file_that_lacks_nothing_of_its_own_says_nothing(lose, capsys):
    lose({"toy": {"val": {"edit": 2}}})
    scores("--predictions", "said.json", "--tasks", "vqa")
    assert ": said.json\n" in capsys.readouterr().out


def test_a_split_without_a_text_for_a_task_is_said(project, capsys):
    every_task.build(project / "bare", change=lambda _n, record: structs.replace(record, texts=[]))
    found = scores("--shards", "bare/data")
    assert list(found) == ["run", "split", "mfm"]
    assert "region: no picture of these shards has a text for it" in capsys.readouterr().err
    with pytest.raises(ShardError, match="nothing to score"):
        scores("--shards", "bare/data", "--tasks", "vqa", "cir")


def test_a_target_that_the_gallery_lacks_is_an_error(project):
    def elsewhere(number, record):
        record = every_task.with_all(number, record)
        record.texts[-1].target = ["p0001"]
        record.texts[-1].members[0] = "p0001"
        return record

    every_task.build(project / "lost", change=elsewhere)
    with pytest.raises(MismatchError, match="1 missing: p0001"):
        scores("--shards", "lost/data", "--tasks", "cir")


def test_a_picture_that_no_encoder_could_take_stays_in_the_gallery(project, monkeypatch, capsys):
    known, write = synthetic.features, synthetic.write_shard

    def write_shard(path, suffixes, samples):
        for sample in samples:
            sample.absent = sample.key == "p0045" and "npy" in suffixes[0]
        return write(path, suffixes, samples)

    monkeypatch.setattr(synthetic, "features", lambda n, name: known(n, name)[: 0 if n == 45 else None])
    monkeypatch.setattr(synthetic, "write_shard", write_shard)
    every_task.build(project / "blurred")
    found = scores("--shards", "blurred/data")
    assert (found["cir"]["gallery"], found["cir"]["queries"], found["cir"]["without_features"]) == (12, 12, 1)
    assert found["vqa"]["unanswered"] == 2 and found["vqa"]["questions"] == 22
    assert found["itc"]["text_to_picture"]["texts"] == 11
    assert found["region"]["matching"]["phrases"] == 44
    random = found["itm"]["random"]
    assert random["pairs"] + random["without_partner"] == 11
    sections = (found["vqa"], random, found["itm"]["mined"], found["region"]["matching"], found["mfm"])
    assert [one["without_features"] for one in sections] == [1] * 5
    shown = capsys.readouterr().out
    assert shown.count("note: 1 pictures have no features") == 6
    assert "note: 2 questions are of pictures without features" in shown
    one = structs.replace(held(), shards=open_shards(["blurred/data"], ["vit", "esam"], split="val"))
    search = cir_scores.search(one, "toy", one.pictures(cir_scores.is_edit)["toy"])
    assert np.isneginf(search.scores_QG[:, search.gallery.index("p0045")]).all()
    assert np.isfinite(search.scores_QG).sum() == 12 * 11


def test_datasets_add_up_by_their_questions():
    small = Section({"accuracy": 1.0, "auc": None}, {"accuracy": 0.5}, {"phrases": 1, "boxes": 4})
    large = Section({"accuracy": 0.5, "auc": 0.25}, {"accuracy": 0.1}, {"phrases": 3, "boxes": 5})
    both = pool([small, large])
    assert both.values == {"accuracy": 0.625, "auc": 0.25}
    assert both.chance == {"accuracy": pytest.approx(0.2)}
    assert both.counts == {"phrases": 4, "boxes": 9}
    assert pool([small]) == small
    nothing = Section({"accuracy": None}, {}, {"phrases": 0})
    assert pool([nothing, large]).values["accuracy"] == 0.5 and pool([nothing]).values == {"accuracy": None}


def test_two_datasets_stand_apart_beside_their_sum():
    sections = {
        name: {"": Section({"R@1": value}, {"R@1": 0.1}, {"queries": 2})}
        for name, value in (("a", 0.5), ("b", 1.0))
    }
    found = scored.scored("cir", sections)
    assert found.results["cir"]["R@1"] == 0.75 and found.results["cir"]["queries"] == 4
    assert found.results["cir"]["datasets"]["b"] == {"R@1": 1.0, "chance": {"R@1": 0.1}, "queries": 2}
    assert "+65.0" in found.table and "cir, a" in found.table
    assert scored.scored("cir", sections | {"c": {}}) == found
    assert scored.scored("cir", {}) == scored.NO_TEXT
    assert scored.scored("cir", {"a": {}}) == scored.NONE_LEFT
