"""Several processes train what one would: the same rows, the same losses, from any resume to any other."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import every_task
import msgspec
import numpy as np
import pytest
import several_fits
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from contract import index
from contract.errors import ParamsError, ShardError, TrainingError
from training import distributed, fit
from training.batching.mixture import endless, one_pass, shared
from training.batching.steps import by_step
from training.distributed import World
from training.optimizing import checkpoint
from training.optimizing.account import Account
from training.optimizing.checkpoint import State, Sums
from training.optimizing.ledger import Ledger
from training.optimizing.step import finite
from training.shards import open_shards
from training.starting import session
from training.stream import Stream

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
TASKS = (
    "tasks={vqa: {}, itc: {momentum: 0.9, alpha: 0.4, alpha_ramp: 4, bank: {slots: 24, warmup: 2}}, "
    "itm: {swapped: 1, sources: {similar: 1, random: 1, swapped: 1, masked: 1}}, "
    "region: {bank: {slots: 40, warmup: 2}, masked: true}, cir: {}, mfm: {}}"
)
CPU = torch.device("cpu")
SETTINGS = [
    TASKS,
    "optim={epochs: 2, batch: 8, accumulate: 4, learning_rate: 0.003}",
    "masking={ratio: 0.25, fill: learned}",
    "log_every=3",
]


# Without processes


worlds = st.integers(1, 5)


@given(worlds, st.integers(1, 7), st.integers(0, 60), st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_processes_share_the_batches_and_agree_where_they_are(world, batch, at, weights):
    whole = list(islice(endless(weights, batch, at * batch), world * 4))
    shares = [list(islice(shared(endless(weights, batch, at * batch), r, world), 4)) for r in range(world)]
    assert [span for turn in zip(*shares, strict=True) for span, _ in turn] == whole
    for turn in zip(*shares, strict=True):
        (after,) = {position for _, position in turn}
        assert after == max(span.end for span, _ in turn)


@given(worlds, st.lists(st.integers(1, 9), min_size=1, max_size=3), st.integers(1, 5))
def test_a_single_pass_is_shared_to_its_last_row(world, rows, batch):
    def spans():
        return one_pass(rows, batch, 0, sum(rows))

    taken = [span for rank in range(world) for span, _ in shared(spans(), rank, world)]
    assert sorted(taken, key=lambda span: span.end) == list(spans())


@given(worlds, st.integers(1, 3), st.integers(1, 4), st.integers(0, 3), st.sets(st.integers(0, 44)))
def test_a_step_is_its_rows_whatever_of_them_is_missing(world, each, size, begun, missing):
    parts = world * each
    positions = [size * (begun * parts + number + 1) for number in range(5 * parts)]
    steps: list[dict[int, int]] = [{} for _ in range(5)]
    for rank in range(world):
        turns = [
            (
                size * (begun * parts + number - number % world + world),
                batch(positions[number], number in missing),
            )
            for number in range(rank, 5 * parts, world)
        ]
        found = list(by_step(turns, begun * parts * size, parts * size, parts))
        assert len(found) == 5
        for step, taken in zip(steps, found, strict=True):
            step |= {number: part.position for number, part in taken.items()}
    for step, found in enumerate(steps):
        numbers = range(step * parts, (step + 1) * parts)
        assert found == {n % parts: positions[n] for n in numbers if n not in missing}


def batch(position: int, missing: bool) -> Any:
    """A turn of which only the position is asked."""
    return None if missing else SimpleNamespace(position=position)


def test_the_account_of_all_is_a_sum_with_each_picture_once():
    first = Account(Sums(2.0, 3, 10, {"vqa/accuracy": (1.0, 4)}), [0.5], {"disk": 1.0}, 1, {"0:1": "cut"})
    skipped = {"0:1": "cut", "2:0": "gone"}
    other = Account(Sums(1.0, 3, 6, {"itc/scale": (2.0, 1)}), [0.25], {"disk": 2.0}, 0, skipped)
    first.take(other)
    assert first.sums == Sums(3.0, 3, 16, {"vqa/accuracy": (1.0, 4), "itc/scale": (2.0, 1)})
    assert (first.waited, first.spent, first.truncated) == ([0.5, 0.25], {"disk": 3.0}, 1)
    assert first.skipped.keys() == {"0:1", "2:0"}


class Second(World, frozen=True):
    """The second of two processes; the first has left out two pictures."""

    def gather(self, told: bytes) -> list[bytes]:
        first = Account(Sums(), [0.0], {}, 0, {"0:1": "cut", "0:2": "cut"})
        return [msgspec.msgpack.encode(first), told]


def test_too_many_pictures_left_out_by_all_end_every_process(toy):
    one = stream(toy, on_error="skip", max_skipped=2, skipped=["1:0"])
    with (
        Ledger(toy, 1, State(0, 0), one, Second(1, 2)) as ledger,
        pytest.raises(ShardError, match="3 of them"),
    ):
        ledger.settle(State(1, 3), due=True)


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    """Shards with texts of every task."""
    folder = tmp_path_factory.mktemp("toy")
    every_task.build(folder)
    return folder


def stream(folder: Path, position: int = 0, **options) -> Stream:
    shards = open_shards([str(folder / "data")], [])
    return Stream(shards, ["vqa"], batch=3, position=position, seed=1, **options)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_the_stream_of_all_processes_is_that_of_one_from_any_step(toy, world):
    whole = [batch.keys for batch in islice(stream(toy), 24)]
    position, taken = 0, []
    for turns in (1, 3, 24 // world - 4):  # each time from where any of them says that all are
        streams = [stream(toy, position, rank=rank, world=world) for rank in range(world)]
        parts = [[batch.keys for batch in islice(one, turns)] for one in streams]
        taken += [keys for turn in zip(*parts, strict=True) for keys in turn]
        (position,) = {one.position for one in streams}
    assert taken == whole[: len(taken)] and position == 3 * len(taken)


def test_a_world_is_known_by_what_torchrun_sets(monkeypatch):
    for name in distributed.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert distributed.find() == World(0, 1, 0)
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(ParamsError, match="by halves"):
        distributed.find()
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert distributed.find() == World(3, 4, 1)
    monkeypatch.setenv("RANK", "4")
    with pytest.raises(ParamsError, match=r"RANK=4\n.*below WORLD_SIZE=4"):
        distributed.find()


@pytest.mark.parametrize("given", [{}, {"MASTER_ADDR": "localhost", "MASTER_PORT": "none"}])
def test_a_process_that_does_not_know_where_the_others_are_says_so(monkeypatch, given):
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", **given}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ParamsError, match="start it by torchrun"), distributed.joined(World(0, 2), CPU):
        pass


def test_numbers_that_are_not_finite_are_said_by_a_process_without_a_part_of_the_step():
    with pytest.raises(TrainingError, match=r"gradient's norm is nan\n.*pictures of another process"):
        finite("gradient's norm", math.nan, [])


def test_processes_that_cannot_share_a_step_evenly_are_refused(toy, monkeypatch):
    monkeypatch.chdir(toy)
    options = fit.parser().parse_args(["--run", "runs/never", "--set", "optim.accumulate=2"])
    with pytest.raises(ParamsError, match=r"--set optim.accumulate=3"):
        session.open_session(options, World(0, 3))
    assert not Path("runs/never").exists()


# With processes


@pytest.fixture
def world(toy, tmp_path, monkeypatch) -> Path:
    for name in ("data", "features", "negatives"):
        shutil.copytree(toy / name, tmp_path / name)
    shutil.copy(toy / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def together(*runs: list[str]) -> "subprocess.CompletedProcess[str]":
    """Runs of two processes, one after another."""
    command = [*TORCHRUN, str(ROOT / "tests/several_fits.py"), json.dumps(runs)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def metrics(run: str) -> dict[str, list[str]]:
    """Name → lines of its file."""
    folder = Path(run) / "plots/metrics"
    return {str(path.relative_to(folder)): path.read_text().splitlines() for path in folder.rglob("*.tsv")}


def assert_alike(first: str, second: str) -> None:
    """The same lines of the log, and the same weights, but for the last digits."""
    here, there = metrics(first), metrics(second)
    assert here.keys() == there.keys() and len(here) > 20
    for name, lines in here.items():
        both = (lines, there[name])
        numbers = [np.array([line.split("\t") for line in found[1:]], float) for found in both]
        np.testing.assert_allclose(*numbers, rtol=1e-5, atol=1e-5, err_msg=name)
    weights = [load_file(checkpoint.find(Path(run), "last") / "model.safetensors") for run in (first, second)]
    assert weights[0].keys() == weights[1].keys()
    assert all(abs(weights[0][name] - weights[1][name]).max() < 2e-3 for name in weights[0])


def test_two_processes_train_as_one_and_go_on_as_one_or_two(world):
    fit.main(["--run", "runs/one", "--set", *SETTINGS])
    begun = ["--run", "runs/changing", "--set", *SETTINGS, "STOP=2"]
    done = together(["--run", "runs/two", "--set", *SETTINGS], begun)
    assert done.returncode, "the last run ended by SIGTERM"
    assert "world    2 processes, 4 parts a step" in done.stdout
    assert done.stdout.count("done: 8 steps") == 1 and "stopped by SIGTERM after 3 steps" in done.stdout
    assert_alike("runs/one", "runs/two")

    assert several_fits.main([["--resume", "runs/changing", "STOP=5"]]) == 143
    done = together(["--resume", "runs/changing"])
    assert done.returncode == 0, done.stderr
    assert_alike("runs/one", "runs/changing")


def test_damaged_pictures_are_left_out_alike_or_end_all_processes(toy, world):
    damage(world / "features/vit/toy-000.tar", 18)
    leave_out = [*SETTINGS, "shuffle=none", "on_error=skip"]
    fit.main(["--run", "runs/one", "--set", *leave_out])
    for name in ("data", "features", "negatives"):
        shutil.copytree(toy / name, world / "one" / name)
    damage(world / "one/features/vit/toy-000.tar", 1)
    stopping = ["--shards", "one/data", "--run", "runs/stopped", "--set", *SETTINGS]
    done = together(["--run", "runs/two", "--set", *leave_out], stopping)
    assert_alike("runs/one", "runs/two")
    assert metrics("runs/two")["train/skipped.tsv"][-1].endswith("\t18.0")
    assert done.returncode and "done: 8 steps" in done.stdout
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert any("p0000.vit.npy is damaged" in line for line in said)
    assert len(said) <= 2 and "Traceback" not in done.stderr.partition("torch/distributed")[0]


def test_a_signal_to_torchrun_leaves_a_checkpoint_to_go_on_from(world):
    options = ["--run", "runs/ended", "--set", "optim={epochs: 600, batch: 8, accumulate: 2}"]
    process = subprocess.Popen(
        [*TORCHRUN, "-m", "--", "training.fit", *options],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = Path("runs/ended/plots/metrics/train/loss.tsv")
    while not line.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    said, errors = process.communicate()
    assert "stopped by SIGTERM after" in said, errors
    state = checkpoint.load_state(checkpoint.find(Path("runs/ended"), "last"))
    assert state.step and state.position == 8 * state.step


def damage(path: Path, pictures: int) -> None:
    """A bit of the first member of the first so many pictures."""
    content = bytearray(path.read_bytes())
    for offsets in index.load(path).rows["offset"][:pictures]:
        content[int(offsets[0]) + 700] ^= 1
    path.write_bytes(content)
