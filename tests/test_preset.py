"""Every preset is trained, and lies between params.yaml and --set."""

from pathlib import Path

import pytest
import statements
import synthetic
import synthetic_tasks
from msgspec.structs import replace
from test_fit import new_after_init, train

from contract.errors import FuselineError, ParamsError
from contract.record import Record
from training import preset, run, settings

SMALL = ["--set", "optim.epochs=1", "optim.batch=8"]


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    synthetic.build(tmp_path, change=for_every_task)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def for_every_task(number: int, record: Record) -> Record:
    """The record with a statement and an edit beside its questions."""
    edits = synthetic_tasks.with_edits(number, record).texts
    stated = statements.stated(number, record)
    return replace(stated, texts=[*stated.texts, *edits])


@pytest.mark.parametrize("name", preset.names())
def test_every_preset_trains(world, name):
    small = ["tasks.itc.bank={slots: 16}"] if "bank" in str(preset.load(name)) else []
    train("--run", "runs/a", "--preset", name, *SMALL, *small)
    assert run.open_run(Path("runs/a")).settings.tasks.chosen.keys() == preset.load(name)["tasks"].keys()


def test_questions_go_on_from_contrast_and_matching(world, capsys):
    train("--run", "runs/first", "--preset", "pretrain", *SMALL)
    new = new_after_init(capsys, "--run", "runs/then", "--preset", "vqa", "--init", "runs/first", *SMALL)
    assert new and all(name.startswith("heads.vqa") for name in new)


def test_set_wins_over_the_preset_and_the_preset_over_the_file(world):
    named = {"tasks": {"itc": {}}, "optim.batch": 4, "optim.epochs": 7}
    loaded, _ = settings.load(Path("params.yaml"), ["optim.batch=2"], named)
    assert list(loaded.tasks.chosen) == ["itc"]
    assert (loaded.optim.batch, loaded.optim.epochs) == (2, 7)
    assert loaded.optim.learning_rate == 0.003


@pytest.mark.parametrize("name", ["itm", "itm_focal", "pretrain"])
def test_tokens_are_dropped_where_a_preset_trains_without_boxes(world, name):
    dropped = ["--preset", name, *SMALL, "augment.token_dropout=0.2"]
    with pytest.raises(ParamsError, match="tasks.region=null"):
        train("--run", "runs/never", *dropped)
    train("--run", "runs/a", *dropped, "tasks.region=null")


def test_an_unknown_preset_lists_the_known(world):
    with pytest.raises(FuselineError, match="itm[\\s\\S]*pretrain"):
        train("--preset", "itn")
