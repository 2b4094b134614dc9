"""Tasks over processes and threads: order, errors, and no process left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contract.errors import FuselineError, ParamsError
from data_pipeline.engine import AHEAD, run_tasks, run_threads

SLEEPERS = """
import os, sys, time
from pathlib import Path
from data_pipeline.engine import run_tasks

def sleep(name):
    Path(name).write_text(str(os.getpid()))
    time.sleep(60)

if __name__ == "__main__":
    list(run_tasks(sleep, ["a", "b"], 2, label="sleepers"))
"""


def square(number: int) -> int:
    time.sleep(0.01 * (number % 3))  # later tasks end earlier
    return number * number


def refuse(number: int) -> int:
    if number == 3:
        raise ParamsError("params.yaml", "is not to be", found=number, fix="try another")
    return number


def stumble(number: int) -> float:
    return 1 / (number - 2)


def vanish(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def folder(_: int) -> str:
    return str(Path.cwd())


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_tasks(workers: int) -> None:
    assert list(run_tasks(square, range(20), workers, label="squares")) == [n * n for n in range(20)]
    assert list(run_tasks(square, [], workers, label="none")) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_users_mistake_crosses_processes_with_its_fields(workers: int) -> None:
    with pytest.raises(ParamsError) as caught:
        list(run_tasks(refuse, range(8), workers, label="refuse"))
    assert (caught.value.found, caught.value.fix) == (3, "try another")


def test_any_other_error_shows_where_in_the_worker_it_arose() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        list(run_tasks(stumble, range(4), 2, label="stumble"))
    assert "in stumble" in str(caught.value.__cause__)


def test_a_killed_worker_is_an_error_that_says_so() -> None:
    with pytest.raises(FuselineError, match="worker process was killed"):
        list(run_tasks(vanish, range(4), 2, label="vanish"))


def test_a_worker_works_in_its_parents_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert list(run_tasks(folder, [0], 2, label="folder")) == [str(tmp_path)]


def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "sleepers.py").write_text(SLEEPERS)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    parent = subprocess.Popen([sys.executable, "sleepers.py"], cwd=tmp_path, env=environment)
    files = [tmp_path / "a", tmp_path / "b"]
    wait_until(lambda: all(file.exists() and file.read_text() for file in files))
    workers = [int(file.read_text()) for file in files]
    parent.kill()
    parent.wait()
    wait_until(lambda: not any(map(is_running, workers)))
    assert not any(map(is_running, workers))


def wait_until(true: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_give_results_in_order_and_take_tasks_a_few_ahead(workers: int) -> None:
    taken: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(40):
            taken.append(number)
            yield number

    results = run_threads(square, tasks(), workers, label="squares", total=40)
    assert next(results) == 0 and len(taken) <= AHEAD * workers + 1
    assert list(results) == [number * number for number in range(1, 40)]


def test_a_mistake_in_a_thread_stops_the_rest() -> None:
    done: list[int] = []

    def note(number: int) -> int:
        refuse(number)
        time.sleep(0.01)
        done.append(number)
        return number

    with pytest.raises(ParamsError):
        list(run_threads(note, range(100), 1, label="notes", total=100))
    assert len(done) < 10
