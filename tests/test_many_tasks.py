"""All tasks in one run, with every kind of negative: it goes on bit for bit, and each task is told."""

from pathlib import Path

import every_task
import pytest
from killed_runs import fit_and_kill
from msgspec.structs import replace
from safetensors.numpy import load_file

from contract.record import Record
from training import fit
from training.optimizing import checkpoint

SOURCES = "{similar: 1, mined: 1, random: 1, swapped: 2, masked: 2}"
TASKS = (
    "tasks={vqa: {}, itc: {mined: 1, bank: {slots: 12, warmup: 2}, momentum: 0.9, alpha: 0.4}, "
    f"itm: {{mined: 1, swapped: 1, sources: {SOURCES}}}, "
    "region: {masked: true, bank: {slots: 12, warmup: 2}}, cir: {}, mfm: {}}"
)
COMMAND = ["--set", TASKS, *every_task.MASK, "optim.epochs=2", "checkpoint_every=2", "log_every=1"]


def named(number: int, record: Record) -> Record:
    """The record with a text for every task; its statement names the bright cell."""
    made = every_task.with_all(number, record)
    texts = [
        replace(text, span_chars=[(0, 4)], span_tokens=[(0, 1)], span_regions=[[0]])
        if text.role == "statement"
        else text
        for text in made.texts
    ]
    return replace(made, texts=texts)


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    every_task.build(tmp_path, train=24, change=named)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def weights(run: str) -> dict[str, bytes]:
    tensors = load_file(checkpoint.find(Path(run), "last") / "model.safetensors")
    return {name: array.tobytes() for name, array in tensors.items()}


def curves(run: str) -> dict[str, list[str]]:
    """Every measure by step; the time of day is left out."""
    folder = Path(run) / "plots/metrics"
    return {
        str(path.relative_to(folder)): [row.split("\t", 1)[1] for row in path.read_text().splitlines()[1:]]
        for path in sorted(folder.rglob("*.tsv"))
    }


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_of_all_tasks_and_negatives_goes_on_bit_for_bit(world, monkeypatch, accumulate):
    command = [*COMMAND, f"optim.accumulate={accumulate}"]
    fit.main(["--run", "runs/whole", *command])
    fit_and_kill(monkeypatch, ["--run", "runs/killed", *command])
    fit.main(["--resume", "runs/killed"])
    assert weights("runs/killed") == weights("runs/whole")
    assert curves("runs/killed") == curves("runs/whole")
    told = curves("runs/whole")
    for task in ("vqa", "itc", "itm", "region", "cir", "mfm"):
        assert f"train/{task}/trunk_gradient.tsv" in told
    assert {"train/itm/swapped/side.tsv", "train/itm/masked.tsv"} <= set(told)
