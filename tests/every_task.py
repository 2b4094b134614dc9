"""Records of `synthetic` with a text for every task. Use as `every_task.build(folder)`."""

from collections.abc import Callable
from pathlib import Path

import statements
import synthetic
import synthetic_tasks
from msgspec.structs import replace

from contract.record import Near, NegText, Record, TextNegatives

Change = Callable[[int, Record], Record]
TASKS = "tasks={vqa: {}, itc: {}, itm: {}, region: {}, cir: {}, mfm: {}}"
MASK = ("masking.ratio=0.25", "masking.fill=learned")


def build(
    folder: Path, train: int = 40, val: int = 12, shards: int = 2, change: Change | None = None
) -> None:
    """Shards as of `synthetic.build`: two questions, a statement, two phrases, an edit on each picture."""
    folder.mkdir(exist_ok=True)
    synthetic.build(folder, train=train, val=val, shards=shards, change=change or with_all, false=swapped)


def with_all(number: int, record: Record) -> Record:
    """The record with what each task takes."""
    phrases = synthetic_tasks.with_phrases(number, record)
    edits = synthetic_tasks.with_edits(number, record)
    named = [replace(text, id=f"{text.id}-phrase") for text in phrases.texts]
    texts = [*statements.stated(number, record).texts, *named, *edits.texts]
    return replace(record, regions=phrases.regions, texts=texts)


def swapped(record: Record) -> dict[str, TextNegatives]:
    """The statement with the opposite side."""
    number = int(record.group.removeprefix("toy:"))
    words = synthetic_tasks.quadrant(synthetic_tasks.mirrored(synthetic.cell(number)))
    false = NegText(text=words, tokens=synthetic_tasks.tokens(words), kind="side")
    return {f"{number}-where": TextNegatives(Near(), [false])}
