"""What is settled before the first step: a mistake leaves no run behind, and a forecast is what comes."""

import os
from pathlib import Path

import every_task
import numpy as np
import pytest
import statements
import synthetic
import torch

from contract import manifest
from contract.errors import FuselineError, MismatchError, ParamsError, TrainingError
from contract.manifest import DataManifest
from contract.record import Record
from contract.seeds import uniforms
from training import fit, forecast, run
from training.config import Optim
from training.model.tasks import TASKS
from training.optimizing import checkpoint, device
from training.starting import preparing

SHORT = ("optim.epochs=1", "optim.batch=8")
EMA = ("optim.ema=0.9", "tasks={itc: {momentum: 0.9}, vqa: {}}")


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    synthetic.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("training.forecast.READ_SECONDS", 0.01)
    return tmp_path


@pytest.fixture
def every(tmp_path, monkeypatch) -> Path:
    every_task.build(tmp_path, train=24, val=4, shards=1)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(name: str, *settings: str, options: tuple[str, ...] = ()) -> Path:
    fit.main(["--run", f"runs/{name}", *options, "--set", *SHORT, *settings])
    return Path("runs", name)


def test_auto_tells_runs_apart_by_the_weights_they_were_begun_with(world, capsys):
    for seed in ("1", "2"):
        train(f"from-{seed}", options=("--seed", seed))
    again = ["--resume", "auto", "--set", *SHORT]
    for init in ([], ["--init", "runs/from-1"], ["--init", "runs/from-2"]):
        begun = sorted(Path("runs").glob("2*"))
        fit.main([*again, "--run", f"runs/2{len(begun)}-vqa", *init])
        fit.main([*again, *init])
        assert len(list(Path("runs").glob("2*"))) == len(begun) + 1
        assert f"run      runs/2{len(begun)}-vqa" in capsys.readouterr().out.split("done:")[-2]


WRONG = {
    "masking.fill=foo": r"train\.masking\.fill: unknown fill 'foo'",
    "masking.kind=foo": r"train\.masking\.kind: unknown kind 'foo'",
    "optim.groups={trunk.txt: 2}": r"train\.optim\.groups: unknown part",
    "best=vqa/acuracy": r"train\.best: unknown measure 'vqa/acuracy'[\s\S]*did you mean",
    "best=itc/picture_of_text": r"train\.best: unknown measure",
    "development=0.999": r"train\.development: leaves no picture to train on",
}


@pytest.mark.parametrize("setting", WRONG)
def test_a_forecast_refuses_what_a_run_refuses_and_neither_makes_one(world, setting):
    for options in (["--plan"], ["--run", "runs/never"]):
        with pytest.raises(FuselineError, match=WRONG[setting]):
            fit.main([*options, "--set", setting])
    assert not Path("runs").exists()


@pytest.mark.parametrize("which", ["auto", "runs/a"])
def test_a_forecast_is_of_a_new_run(world, which):
    with pytest.raises(ParamsError, match="--plan: tells of a new run"):
        fit.main(["--plan", "--resume", which])


def test_every_measure_that_may_choose_the_best_is_counted(every):
    made = train("every", every_task.TASKS, *every_task.MASK, "development=0.3")
    for task, row in TASKS.items():
        for measure in row.measures:
            assert (made / f"plots/metrics/development/{task}/{measure}.tsv").is_file(), (task, measure)


@pytest.mark.parametrize("masking", ["{ratio: 0}", "{ratio: 0.5, ratio_end: 0}", "{ratio: 0, ratio_end: 0}"])
def test_a_task_of_hidden_tokens_is_refused_where_none_will_be_hidden(every, masking):
    with pytest.raises(ParamsError, match=r"train\.masking\.ratio.*mfm learns from what the mask hides"):
        train("never", "tasks={mfm: {}}", f"masking={masking}", "masking.fill=learned")


def test_held_out_pictures_are_masked_as_at_the_end(every):
    mask = "masking={ratio: 0, ratio_end: 0.5, fill: learned}"
    made = train("rising", "tasks={mfm: {}}", mask, "development=0.3")
    scores = (made / "plots/metrics/development/mfm/explained.tsv").read_text().splitlines()
    assert float(scores[-1].split("\t")[-1]) != 0


def test_held_out_pictures_without_a_text_to_choose_the_best_by_are_refused(tmp_path, monkeypatch):
    def where_trained(number: int, record: Record) -> Record:
        held = uniforms(np.array([record.id], "S8"), "development")[0] < 0.2
        return record if held else statements.stated(number, record)

    synthetic.build(tmp_path, change=where_trained)
    monkeypatch.chdir(tmp_path)
    both = ("tasks={vqa: {}, itc: {}}", "development=0.2")
    for options in (["--plan"], ["--run", "runs/never"]):
        with pytest.raises(
            ParamsError, match=r"train\.development: holds out no text for itc.*picture_of_text"
        ):
            fit.main([*options, "--set", *both, "best=itc/picture_of_text"])
    assert not Path("runs").exists()
    train("by-answers", *both)


def test_answers_of_which_none_is_asked_for_would_train_nothing(world):
    known = manifest.load(Path("data"), DataManifest)
    known.answers = ["zebra", "yes"]
    manifest.save(Path("data"), known)
    said = (
        r"vqa would learn nothing .*no question has a known answer\n +found: .*left.*\n +expected: zebra, yes"
    )
    with pytest.raises(MismatchError, match=said):
        train("never")
    assert not Path("runs").exists()
    known.answers.append("left")
    manifest.save(Path("data"), known)
    train("one-is-known")


HARDLY = "masking={ratio: 0.5, ratio_end: 0.01, fill: learned}"  # in the end, no cell of the sixteen


def test_a_best_of_nothing_is_told_before_training_where_few_pictures_are_held_out(every):
    for command in ([], ["--plan"]):
        with pytest.raises(TrainingError, match=r"(?s)held out asks for mfm/.*pictures held out: [1-9]"):
            fit.main([*command, "--run", "runs/no", "--set", "tasks={mfm: {}}", HARDLY, "development=0.3"])
    assert not Path("runs").exists()


def test_a_best_of_nothing_ends_training(every, monkeypatch):
    monkeypatch.setattr(preparing, "FEW", 0)
    with pytest.raises(TrainingError, match=r"train\.development: nothing that is held out asks for mfm/"):
        train("hardly", "tasks={mfm: {}}", HARDLY, "development=0.3")
    assert list(Path("runs/hardly/checkpoints").glob("step-*")), "the epoch is not lost"
    with pytest.raises(TrainingError, match="nothing that is held out asks for mfm/"):
        fit.main(["--resume", "runs/hardly"])


def test_who_holds_pictures_out_of_several_datasets_is_told_that_they_may_share_some(world, capsys):
    train("one")
    assert "held out of one dataset" not in capsys.readouterr().err
    known = manifest.load(Path("data"), DataManifest)
    known.shards["toy-001"].dataset = "toy-too"
    manifest.save(Path("data"), known)
    train("two")
    assert "held out of one dataset may be trained on in another" in capsys.readouterr().err
    train("none", "development=0")
    assert "held out of one dataset" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ("{grid: vit, pixel: esam}", "difnet fusion"),
        ("{grid: vit, words: text}", "difnet fusion"),
        ("{grid: vit}", "one input, no fusion"),
        ("{}", "no input, no fusion"),
    ],
)
def test_a_fusion_is_announced_where_there_is_one(world, capsys, inputs, said):
    train("a", f"inputs={inputs}", "fusion.kind=difnet", "optim.epochs=0.2")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("model ")]
    assert f" parameters, {said}, on " in line


@pytest.mark.parametrize(
    ("itc", "said"),
    [
        (
            "{momentum: 0.9, alpha: 0.4, alpha_ramp: 4}",
            "alpha_ramp of 4 steps is longer than the run: alpha ends at 0.1,",
        ),
        ("{momentum: 0.9, alpha: 0.4, alpha_ramp: 2}", None),
        ("{momentum: 0.9}", None),
    ],
)
def test_a_ramp_that_outlasts_the_run_is_noted(every, capsys, itc, said):
    train("a", f"tasks={{itc: {itc}}}", "optim.batch=12", "development=0")
    told = capsys.readouterr().err
    assert said in told if said else "alpha_ramp" not in told


@pytest.mark.parametrize("settings", [(), EMA])
def test_checkpoints_are_as_large_as_forecast(every, settings):
    opened = run.open_run(train("a", *settings))
    files = list(checkpoint.find(opened.folder, "last").glob("*.safetensors"))
    header = sum(8 + int.from_bytes(path.read_bytes()[:8], "little") for path in files)
    counts = sum(name.endswith(".step") for name in checkpoint._read(files[0]) | checkpoint._read(files[1]))
    model = run.trained_model(opened, "last")
    expected = forecast.checkpoint_bytes(model, opened.settings.optim)
    assert sum(path.stat().st_size for path in files) - header - 4 * counts == expected


def test_frozen_weights_have_neither_gradients_nor_moments():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4, bias=False), torch.nn.BatchNorm1d(4, affine=False))
    buffers = 4 * (4 + 4) + 8
    assert forecast.trained_bytes(model) == 48
    assert forecast.checkpoint_bytes(model, Optim()) == 3 * 48 + buffers
    assert forecast.checkpoint_bytes(model, Optim(ema=0.9)) == 4 * 48 + buffers
    model.requires_grad_(False)
    assert forecast.checkpoint_bytes(model, Optim()) == 48 + buffers and not forecast.trained_bytes(model)


@pytest.mark.parametrize("name", ["meta", "mps", "cuda:99", "cpu:x", "xpu"])
def test_a_device_that_is_not_trained_on_is_refused(name):
    with pytest.raises(ParamsError, match="--device"):
        device.choose(name)


def test_who_may_read_a_folder_may_read_its_checkpoints(world):
    before = os.umask(0o027)
    try:
        files = list(checkpoint.find(train("a"), "last").iterdir())
    finally:
        os.umask(before)
    assert len(files) == 3 and {path.stat().st_mode & 0o777 for path in files} == {0o640}
