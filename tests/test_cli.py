"""Every command explains itself, by example, and a mistake ends in one clear error and status 2."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from data_pipeline.__main__ import COMMANDS, STAGES, main
from training import preset

ROOT = Path(__file__).parents[1]
TRAINING = ("fit", "evaluate", "predict", "results")


def shown(capsys, run) -> str:
    """What `--help` prints, after its usage lines."""
    with pytest.raises(SystemExit) as left:
        run(["--help"])
    assert not left.value.code
    return capsys.readouterr().out.partition("\n\n")[2]


@pytest.mark.parametrize("name", [*STAGES, *COMMANDS])
def test_help_of_every_stage_has_an_example(name, capsys):
    assert f"python -m data_pipeline {name}" in shown(capsys, lambda rest: main([name, *rest]))


@pytest.mark.parametrize("name", TRAINING)
def test_help_of_every_training_command_has_an_example(name, capsys):
    assert f"python -m training.{name}" in shown(capsys, import_module(f"training.{name}").main)


def test_the_overview_names_every_stage_there_is(capsys):
    text = shown(capsys, main)
    files = {path.stem.replace("_", "-") for path in (ROOT / "data_pipeline/stages").glob("[!_]*.py")}
    assert files == {*STAGES, *COMMANDS}
    assert all(f"  {name} " in text for name in files)


def test_help_of_fit_explains_the_unquoted_range(capsys):
    text = shown(capsys, import_module("training.fit").main)
    assert "redirection" in text
    assert "'data/gqa-<000..099>.tar'" in text


def test_help_of_fit_names_the_tasks_of_the_preset_that_it_shows(capsys):
    text = shown(capsys, import_module("training.fit").main)
    assert f"--preset pretrain --run runs/first    {', '.join(preset.load('pretrain')['tasks'])}" in text


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("data_pipeline validat", ["unknown stage 'validat'", "did you mean 'validate'?"]),
        ("data_pipeline read gqaa", ["gqaa", "did you mean 'gqa'?"]),
        ("data_pipeline read gqa --params none.yaml", ["none.yaml: no such file"]),
        ("data_pipeline verify --workers 0", ["--workers", "'0'", "at least 1"]),
        ("data_pipeline export --out x --workers some", ["--workers", "'some'", "at least 1"]),
        ("training.fit --shards nowhere/gqa-<000..003>.tar", ["missing 000–003", "nowhere/"]),
    ],
)
def test_a_users_mistake_is_one_error_and_status_2(command, words):
    line = [sys.executable, "-m", *command.split()]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert all(word in done.stderr for word in words), done.stderr
