"""Batches that teach little, and settings that the shards cannot serve: numbers, or one clear error."""

import json
import re
from dataclasses import replace
from pathlib import Path

import every_task
import pytest
import synthetic
import torch

from contract.errors import MismatchError, ParamsError, ShardError
from training import evaluate, fit
from training.batch import Batch
from training.batching.needs import need
from training.config import (
    Bank,
    Cir,
    Itc,
    Itm,
    Masking,
    Mfm,
    Model,
    Region,
    Sources,
    Tasks,
    Train,
    Vqa,
)
from training.distributed import ALONE
from training.model.model import FusionModel
from training.run import build_model
from training.settings import load as load_settings
from training.shards import open_shards
from training.starting.checks import check_settings
from training.stream import Stream

SOURCES = Sources(similar=1, mined=1, random=1, swapped=1, masked=1)
WITHOUT_CELLS = Tasks(
    vqa=Vqa(label_smoothing=0.1),
    itc=Itc(mined=1, bank=Bank(16), momentum=0.9, alpha=0.4),
    itm=Itm(gamma=2.0, mined=1, swapped=1, sources=SOURCES),
    cir=Cir(gated=True),
)
ALL = Tasks(
    **WITHOUT_CELLS.chosen,
    region=Region(bank=Bank(16), masked=True, contrast="arcface", pooling="attention"),
    mfm=Mfm(),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("every")
    every_task.build(made, train=16, val=4, shards=1)
    return made


def settings(tasks: Tasks, mask: Masking) -> Train:
    return Train(
        tasks=tasks,
        inputs={"grid": "vit", "pixel": "esam"},
        model=Model(hidden=16, heads=2, text_layers=1, head_layers=2),
        masking=mask,
    )


def model_and_batch(folder: Path, fill: str, ratio: float, size: int = 8) -> tuple[FusionModel, Batch]:
    """A fresh model of every task that goes with the fill, and a batch of what they take."""
    tasks, mask = WITHOUT_CELLS if fill == "drop" else ALL, Masking(ratio=ratio, fill=fill)
    checked = Masking(ratio=ratio or 0.5, fill=fill)  # of mfm: that something is hidden at all
    shards = open_shards([str(folder / "data")], ["vit", "esam"])
    torch.manual_seed(0)
    built = build_model(settings(tasks, checked), shards.features, shards.tokenizer, len(shards.answers))
    options = {"mask": mask, "negatives": 1, "text_negatives": 3, "swaps": 1, "named": True}
    return built, next(iter(Stream(shards, list(tasks.chosen), batch=size, **options)))


CHANGES = {
    "as it is": lambda _batch: {},
    "no usable box": lambda batch: {"boxes": torch.zeros_like(batch.boxes)},
    "every box a crowd": lambda batch: {"crowd": torch.ones_like(batch.crowd)},
    "all of one id": lambda batch: {"groups": ["same"] * len(batch.groups)},
    "no text has a word": lambda batch: {"token_mask": torch.zeros_like(batch.token_mask)},
    "one text has no word": lambda batch: {
        "token_mask": torch.cat([torch.zeros_like(batch.token_mask[:1]), batch.token_mask[1:]])
    },
    "all texts alike": lambda batch: {
        "tokens": batch.tokens[:1].expand_as(batch.tokens).clone(),
        "token_mask": batch.token_mask[:1].expand_as(batch.token_mask).clone(),
        "words": batch.words[:1].expand_as(batch.words).clone(),
    },
    "no text of any task": lambda batch: {"rows": {task: rows[:0] for task, rows in batch.rows.items()}},
    "no answer is known": lambda batch: {"answer": torch.full_like(batch.answer, -1)},
    "nothing negative": lambda batch: {
        name: torch.full_like(getattr(batch, name), -1) for name in ("neg_picture", "neg_text", "swapped")
    },
    "no token is visible": lambda batch: {
        name: {column: torch.zeros_like(mask) for column, mask in getattr(batch, name).items()}
        for name in ("visible", "hidden")
    },
}


def check(model: FusionModel, batch: Batch) -> None:
    """Two steps with the same batch, the bank filled by the first: every number is one."""
    for step in range(2):
        model.begin_step(step)
        outcomes = model(batch)
        model.zero_grad(set_to_none=True)
        sum(outcome.loss for outcome in outcomes.values()).backward()
        model.end_parts((0,), 1, ALONE)
        for task, outcome in outcomes.items():
            assert torch.isfinite(outcome.loss), task
            assert all(torch.isfinite(torch.as_tensor(value)) for value, _ in outcome.measures.values()), task
        for name, parameter in model.named_parameters():
            assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
    model.eval()
    assert all(torch.isfinite(outcome.loss) for outcome in model(batch).values())


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("fill", ["drop", "learned"])
def test_a_batch_that_teaches_little_gives_numbers(folder, fill, change):
    model, batch = model_and_batch(folder, fill, 0.25)
    check(model, replace(batch, **CHANGES[change](batch)))


@pytest.mark.parametrize("ratio", [0.0, 1.0])
@pytest.mark.parametrize("fill", ["drop", "zero", "mean", "noise", "learned"])
def test_a_mask_of_nothing_and_of_everything_gives_numbers(folder, fill, ratio):
    check(*model_and_batch(folder, fill, ratio))


def test_a_batch_of_one_picture_gives_numbers(folder):
    check(*model_and_batch(folder, "learned", 0.25, size=1))


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    synthetic.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def assert_refused(error: type[Exception], message: str, *overrides: str) -> None:
    with pytest.raises(error, match=f"(?s){message}"):
        fit.main(["--run", "runs/a", "--set", *overrides])
    assert not Path("runs").exists()


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("inputs", ["{grid: vit, pixel: esam}", "{grid: vit}", "{}"])
def test_as_many_separate_layers_as_there_are_is_refused(world, layers, inputs):
    """Also where there is nothing to fuse, and so nothing would be built."""
    fusion = f"fusion={{kind: difnet, layers: {layers}, separate: {layers}}}"
    assert_refused(ParamsError, "separate", f"inputs={inputs}", fusion)


@pytest.mark.parametrize("task", ["itc", "itm", "cir"])
def test_a_task_whose_texts_the_shards_lack_is_refused(world, task):
    """Beside a task that has some too: it would go on for days and train nothing."""
    message = rf"no picture has a text for {task}:.*expected: .*{need(task).takes}.*fix:"
    assert_refused(ShardError, message, f"tasks={{{task}: {{}}}}")
    assert_refused(ShardError, message, f"tasks={{vqa: {{}}, {task}: {{}}}}")


@pytest.mark.parametrize("task", ["region", "mfm"])
@pytest.mark.parametrize("masking", ["{ratio: 0.5}", "{ratio: 0.0, ratio_end: 0.5}"])
def test_dropped_tokens_are_refused_where_a_task_needs_the_grid(world, task, masking):
    assert_refused(ParamsError, "by their place", f"tasks={{{task}: {{}}}}", f"masking={masking}")


@pytest.mark.parametrize("task", ["itc", "region"])
@pytest.mark.parametrize(
    ("bank", "message"),
    [("{slots: 1000}", "larger than the set"), ("{slots: 4, warmup: 500}", "never be used")],
)
def test_a_bank_that_cannot_be_of_use_is_refused(tmp_path, monkeypatch, task, bank, message):
    every_task.build(tmp_path, train=16, val=4, shards=1)
    monkeypatch.chdir(tmp_path)
    assert_refused(ParamsError, message, f"tasks={{{task}: {{bank: {bank}}}}}")


def test_answers_of_another_manifest_are_refused(world):
    fit.main(["--run", "runs/a", "--set", "optim.epochs=0.2"])
    path = world / "data/manifest.json"
    known = json.loads(path.read_text())
    path.write_text(json.dumps(known | {"answers": [*known["answers"], "middle"]}))
    for command in (fit.main, lambda options: evaluate.main(["--run", *options[1:]])):
        with pytest.raises(MismatchError, match="answers"):
            command(["--resume", "runs/a"])


MINED = "mined: 1, swapped: 1, sources: {mined: 1, swapped: 1}"


@pytest.mark.parametrize(
    ("task", "parts", "found"),
    [
        ("itc: {}", "optim.batch=1", "leaves itc nothing"),
        ("itc: {momentum: 0.9, alpha: 0.4}", "optim.batch=1", "leaves itc nothing"),
        ("itm: {}", "optim.batch=1", "leaves itm nothing"),
        ("itm: {}", "optim.batch=4 optim.accumulate=4", "batch 4, accumulate 4"),
        ("itm: {swapped: 1, sources: {swapped: 1, masked: 1}}", "optim.batch=1", "leaves itm nothing"),
        ("itm: {mined: 1, sources: {mined: 0}}", "optim.batch=1", "leaves itm nothing"),
    ],
)
def test_a_contrast_of_one_picture_is_refused(world, task, parts, found):
    assert_refused(ParamsError, rf"optim\.batch[\s\S]*{found}", f"tasks={{{task}}}", *parts.split())


@pytest.mark.parametrize(
    ("task", "parts"),
    [
        ("itc: {}", "optim.batch=2 optim.accumulate=2"),
        ("itc: {mined: 1}", "optim.batch=1"),
        ("itc: {bank: {slots: 4}}", "optim.batch=1"),
        (f"itm: {{{MINED}}}", "optim.batch=1"),
        ("vqa: {}", "optim.batch=1"),
    ],
)
def test_one_picture_is_enough_where_wrong_ones_come_from_elsewhere(tmp_path, task, parts):
    (tmp_path / "params.yaml").write_text("train: {inputs: {grid: vit}}")
    tasks = f"tasks={{{task}}}"
    check_settings(load_settings(tmp_path / "params.yaml", [tasks, *parts.split()])[0], ALONE)


def test_a_small_batch_is_scored_among_more_pictures(tmp_path, monkeypatch, capsys):
    """Else each text would find its picture among the one that there is."""
    every_task.build(tmp_path, train=24, val=4, shards=1)
    monkeypatch.chdir(tmp_path)
    batch = ["optim.batch=1", "optim.epochs=0.1", "development=0.3"]
    fit.main(["--run", "runs/a", "--set", "tasks={itc: {bank: {slots: 8}}}", *batch])
    chance = re.search(
        r"development itc/picture_of_text .*?(?:chance |CHANCE \()([\d.]+)", capsys.readouterr().err
    )
    assert chance and float(chance[1]) < 0.5


@pytest.mark.parametrize(
    "override",
    [
        "optim.epochs=1e308",
        "optim.batch=1000000000000000000000000000000",
        "optim.batch=-3",
        "model.hidden=1000000000000000000000",
        "model.text_layers=100000",
        "ahead=1000000000",
        "threads=100000",
        "fusion.alpha=1e39",
        "tasks.vqa.weight=1e39",
        "tasks.itc={scale: {init: 1.0e+300, most: 1.0e+300}}",
        "augment.feature_noise=1e40",
    ],
)
def test_a_number_beyond_any_use_is_refused(tmp_path, override):
    """It would overflow, hang, or end in a loss that is no number, of which pictures are accused."""
    (tmp_path / "params.yaml").write_text("train: {inputs: {grid: vit}}")
    key, _, _ = override.partition("=")
    with pytest.raises(ParamsError, match=rf"^--set: {key}[^\n]*Expected `\w+` [<>]= [\s\S]*found: "):
        load_settings(tmp_path / "params.yaml", [override])


@pytest.mark.parametrize(
    ("preset", "override", "source"),
    [
        (None, None, "params.yaml: train"),
        (None, "optim={schedule: linear}", "--set"),
        ({"optim.schedule": "linear"}, None, "--preset"),
        ({"optim": {"schedule": "linear"}}, "optim.batch=4", "--preset"),
        ({"optim.schedule": "linear"}, "optim={schedule: linear}", "--set"),
    ],
)
def test_a_value_is_refused_where_it_was_said(tmp_path, monkeypatch, preset, override, source):
    monkeypatch.chdir(tmp_path)
    own = "" if preset or override else ", optim: {schedule: linear}"
    Path("params.yaml").write_text(f"train: {{inputs: {{grid: vit}}{own}}}")
    with pytest.raises(ParamsError) as error:
        load_settings(Path("params.yaml"), [override] if override else [], preset)
    assert error.value.where == source
    assert error.value.expected == "one of cosine, one_cycle, constant"


def test_an_unknown_key_of_a_task_is_told_with_the_nearest(tmp_path):
    (tmp_path / "params.yaml").write_text("train: {inputs: {grid: vit}}")
    with pytest.raises(ParamsError, match=r"unknown key 'tasks\.itc\.bank\.slot'[\s\S]*'slots'"):
        load_settings(tmp_path / "params.yaml", ["tasks={itc: {bank: {slot: 3}}}"])


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("optim.texts_per_image", "{'a': 3}", r"Expected `int \| str`"),
        ("optim.texts_per_image", "[-1]", r"Expected `int \| str`"),
        ("on_error", "['skip']", r"Expected `str`[\s\S]*one of stop, skip"),
        ("on_error", "{'a': 1}", r"Expected `str`[\s\S]*one of stop, skip"),
        ("optim.schedule", "['cosine']", r"Expected `str`[\s\S]*one of cosine"),
        ("optim.groups", "[1]", "Expected `object`, got `array`"),
        ("datasets", "[1]", "Expected `object`, got `array`"),
    ],
)
def test_what_is_no_mapping_or_list_is_not_looked_into(tmp_path, place, value, said):
    (tmp_path / "params.yaml").write_text("train: {inputs: {grid: vit}}")
    with pytest.raises(ParamsError, match=rf"{re.escape(place)}: {said}") as refused:
        load_settings(tmp_path / "params.yaml", [f"{place}={value}"])
    assert refused.value.found == value


@pytest.mark.parametrize("value", [".nan", ".inf", "{a: -.inf}"])
def test_what_is_no_finite_number_is_said_where_it_was_said(tmp_path, value):
    (tmp_path / "params.yaml").write_text("train: {inputs: {grid: vit}}")
    with pytest.raises(ParamsError, match=r"^--set fusion\.alpha(\.a)?: is not a finite number\n +found"):
        load_settings(tmp_path / "params.yaml", [f"fusion.alpha={value}"])


def test_what_is_no_finite_number_in_the_file_is_said_of_the_file(tmp_path):
    (tmp_path / "params.yaml").write_text("train: {inputs: {grid: vit}, fusion: {alpha: .nan}}")
    with pytest.raises(ParamsError, match=r"params\.yaml: train\.fusion\.alpha: is not a finite number"):
        load_settings(tmp_path / "params.yaml", [])
