"""`predict`: what it refuses before the picture is looked at, and what it says of a text."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import statements
import synthetic
import torch

from contract.errors import ParamsError
from contract.geometry import Affine
from training import fit, predict, run
from training.evaluation import gradcam
from training.evaluation.heatmap import Photo
from training.predict import Encoded

QUESTION = ("--question", "What is it?")


def asked(*options: str) -> None:
    predict.main(["--run", "runs/a", "--image", "none.jpg", *options])


@pytest.fixture
def matching(tmp_path, monkeypatch):
    """A run of itm in the working directory, and its pictures where their encoding is asked for."""
    statements.build(tmp_path, train=16)
    monkeypatch.chdir(tmp_path)
    sizes = ["model.head_layers=2", "development=0"]
    fit.main(["--run", "runs/a", "--set", "tasks={itm: {}}", "optim.epochs=1", *sizes])
    batch = statements.batches(tmp_path, 1, 4)[0]
    features = {name: batch.tokens_of(name)[:1] for name in batch.features}
    place = {name: rows[:1] for name, rows in batch.place.items()}
    encoded = Encoded(features, place, Photo(b"", 64, 48, Affine()))
    monkeypatch.setattr(predict, "encode", lambda _current, _image: encoded)
    return encoded


@pytest.fixture
def unmatched(tmp_path, monkeypatch):
    """A run of neither task in the working directory."""
    synthetic.build(tmp_path, train=16)
    monkeypatch.chdir(tmp_path)
    masking = "masking={ratio: 0.5, fill: zero}"
    fit.main(["--run", "runs/a", "--set", "tasks={mfm: {}}", masking, "optim.epochs=1"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (QUESTION, "this run answers no questions"),
        (("--text", "a cube"), "this run matches no texts"),
        (("--text", " "), "--text: is blank"),
    ],
)
def test_a_run_without_the_task_is_refused_before_its_picture_is_read(unmatched, options, words):
    assert not Path("none.jpg").exists()
    with pytest.raises(ParamsError, match=words):
        asked(*options)


@pytest.mark.parametrize("options", [(), (*QUESTION, "--text", "a cube")])
def test_either_a_question_or_a_text_is_asked(options):
    with pytest.raises(SystemExit) as left:
        asked(*options)
    assert left.value.code == 2


@pytest.mark.parametrize("count", ["-1", "0", "some"])
def test_fewer_than_one_answer_is_no_number_of_answers(count, capsys):
    with pytest.raises(SystemExit) as left:
        asked(*QUESTION, "--top", count)
    assert left.value.code == 2
    assert f"--top: '{count}' is no number of 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize("fused", [False, True])
def test_a_text_is_as_true_as_the_model_says_and_its_map_has_a_panel_a_word(matching, capsys, fused):
    asked("--text", "left top ?", "--map", "where.svg", *["--fused"] * fused)
    current = run.open_run(Path("runs/a"))
    model = run.trained_model(current, "best").eval()
    batch = predict.single(current, matching, "left top ?", "itm")
    first = torch.zeros(1, dtype=torch.long)
    wanted = model.heads["itm"].logits(model.trunk(batch), first, first).softmax(-1)[0, 1]
    (said,) = re.findall(r"([\d.]+) %  true", capsys.readouterr().out)
    assert float(said) == pytest.approx(100 * wanted.item(), abs=0.06)
    page = ElementTree.fromstring(Path("where.svg").read_text())
    title, *panels = [text.text or "" for text in page.iter("{http://www.w3.org/2000/svg}text")]
    assert panels == ["all of it", "left", "top", "?"]
    assert title.startswith(f"left top ? · {said} % true") and title.endswith("of fused tokens") == fused


def test_a_text_that_is_cut_is_said(matching, capsys):
    asked("--text", "left " * 48)
    assert "note" not in capsys.readouterr().err
    asked("--text", "left " * 49)
    assert "of the 49 tokens of this text the run reads the first 48" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--text", "left", "--fused"), "--fused: goes with --map"),
        ((*QUESTION, "--map", "x.svg"), "--map: goes with --text"),
        (("--text", "left", "--map", "none.jpg"), "has the name of another file"),
        (("--text", "left", "--map", "runs/a/config.json"), "has the name of another file"),
        (("--text", "left", "--map", "runs/a/checkpoints/x.svg"), "or lies in one"),
        (("--text", "left", "--map", ""), "is a folder"),
        (("--text", "left", "--map", "runs"), "is a folder"),
    ],
)
def test_options_that_do_not_go_together_are_refused(matching, capsys, options, words):
    with pytest.raises(ParamsError, match=words):
        asked(*options)
    assert "% " not in capsys.readouterr().out


@pytest.mark.parametrize("fused", [False, True])
def test_each_panel_is_the_map_of_its_word(matching, monkeypatch, fused):
    drawn = []
    monkeypatch.setattr(predict.heatmap, "svg", lambda _title, _photo, panels: drawn.extend(panels) or "")
    asked("--text", "left top ?", "--map", "where.svg", *["--fused"] * fused)
    model = run.trained_model(run.open_run(Path("runs/a")), "best").eval()
    batch = predict.single(run.open_run(Path("runs/a")), matching, "left top ?", "itm")
    first = torch.zeros(1, dtype=torch.long)
    cam, other = (gradcam.gradcam(model, batch, first, first, fused=f)[0, :, 1:] for f in (fused, not fused))
    wanted = [cam[gradcam.MEAN], *cam[gradcam.TOKENS :]]
    for (_, cells), expected in zip(drawn, wanted, strict=True):
        torch.testing.assert_close(torch.from_numpy(cells), expected)
    assert not torch.equal(wanted[1], wanted[2]) and not torch.equal(cam, other)


def test_a_head_of_one_block_has_no_map_of_words(tmp_path, monkeypatch):
    statements.build(tmp_path, train=16)
    monkeypatch.chdir(tmp_path)
    sizes = ["model.head_layers=1", "development=0"]
    fit.main(["--run", "runs/a", "--set", "tasks={itm: {}}", "optim.epochs=1", *sizes])
    with pytest.raises(ParamsError, match="--map: the only block"):
        asked("--text", "left", "--map", "x.svg")
