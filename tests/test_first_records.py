"""What leaves a task nothing to learn from is said before the run is made, though the index counts texts."""

from collections.abc import Callable
from pathlib import Path

import every_task
import pytest
from msgspec.structs import replace

from contract.errors import FuselineError
from contract.record import Record
from training import fit

Change = Callable[[int, Record], Record]


def one_picture(number: int, record: Record) -> Record:
    return replace(every_task.with_all(number, record), group="toy:0")


def one_text(number: int, record: Record) -> Record:
    record = every_task.with_all(number, record)
    texts = [text for text in record.texts if text.role == "statement"]
    return replace(record, texts=[replace(text, text="", tokens=[]) for text in texts])


def crowds(number: int, record: Record) -> Record:
    record = every_task.with_all(number, record)
    return replace(record, regions=replace(record.regions, crowd=list(range(len(record.regions.id)))))


def other_answers(number: int, record: Record) -> Record:
    record = every_task.with_all(number, record)
    asked = [replace(text, answer=text.answer and "never") for text in record.texts]
    return replace(record, texts=asked)


def but_one(change: Change) -> Change:
    """All pictures but the last are changed."""
    return lambda number, record: (change if number != 23 else every_task.with_all)(number, record)


LACKING = [
    (one_picture, "itc", r"itc would learn nothing[\s\S]*pictures \(`group`\): 1, different texts: 4"),
    (one_picture, "itm", r"itm would learn nothing[\s\S]*pictures \(`group`\): 1, different texts: 4"),
    (one_text, "itc", r"itc would learn nothing[\s\S]*pictures \(`group`\): 24, different texts: 1"),
    (one_text, "itm", r"itm would learn nothing[\s\S]*pictures \(`group`\): 24, different texts: 1"),
    (crowds, "region", r"region would learn nothing[\s\S]*found: +boxes of crowds alone"),
    (other_answers, "vqa", r"vqa would learn nothing[\s\S]*found: +never"),
]


@pytest.fixture
def train(tmp_path, monkeypatch) -> Callable[[Change, str], None]:
    """A run of a few steps over records that are changed in this way."""
    monkeypatch.chdir(tmp_path)

    def run(change: Change, tasks: str) -> None:
        every_task.build(tmp_path, train=24, val=4, shards=1, change=change)
        fit.main(
            ["--run", "runs/a", "--set", f"tasks={tasks}", "optim.epochs=1", "optim.batch=4", "development=0"]
        )

    return run


@pytest.mark.parametrize(("change", "task", "said"), LACKING)
def test_what_leaves_nothing_to_learn_is_refused(train, change, task, said):
    with pytest.raises(FuselineError, match=said):
        train(change, f"{{{task}: {{}}}}")
    assert not Path("runs").exists()


@pytest.mark.parametrize(("change", "task", "_said"), LACKING)
def test_a_single_other_picture_is_looked_for_in_a_whole_epoch(train, change, task, _said):
    train(but_one(change), f"{{{task}: {{}}}}")
    assert Path("runs/a/checkpoints/last.json").exists()
