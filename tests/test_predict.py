"""What `predict` refuses before the picture is looked at."""

from pathlib import Path

import pytest
import synthetic

from contract.errors import ParamsError
from training import fit, predict


def asked(*options: str) -> None:
    predict.main(["--run", "runs/a", "--image", "none.jpg", "--question", "What is it?", *options])


def test_a_run_that_answers_no_questions_is_refused_before_its_picture_is_read(tmp_path, monkeypatch):
    synthetic.build(tmp_path, train=16)
    monkeypatch.chdir(tmp_path)
    masking = "masking={ratio: 0.5, fill: zero}"
    fit.main(["--run", "runs/a", "--set", "tasks={mfm: {}}", masking, "optim.epochs=1"])
    assert not Path("none.jpg").exists()
    with pytest.raises(ParamsError, match="this run answers no questions"):
        asked()


@pytest.mark.parametrize("count", ["-1", "0", "some"])
def test_fewer_than_one_answer_is_no_number_of_answers(count, capsys):
    with pytest.raises(SystemExit) as left:
        asked("--top", count)
    assert left.value.code == 2
    assert f"--top: '{count}' is no number of 1 or more" in capsys.readouterr().err
