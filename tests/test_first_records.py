"""What leaves a task nothing to learn from is said before the run is made, though the index counts texts."""

from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path

import every_task
import pytest
import synthetic
from drawn import records
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert
from msgspec.structs import replace
from test_fit import stopped_run

from contract import index, manifest
from contract.errors import FuselineError, ShardError, TrainingError
from contract.manifest import DataManifest
from contract.record import Record, Text
from training import fit
from training.config import Train
from training.optimizing import checkpoint
from training.shards import open_shards
from training.starting import first_records
from training.stream import Stream

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


def spans_alone(number: int, record: Record) -> Record:
    record = every_task.with_all(number, record)
    said = [text for text in record.texts if text.role == "statement"]
    linked = {"span_chars": [(0, 3)], "span_tokens": [(0, 1)], "span_regions": [[0]]}
    return replace(record, texts=[replace(text, **linked) for text in said])


def crowds_of_spans(number: int, record: Record) -> Record:
    record = spans_alone(number, record)
    return replace(record, regions=replace(record.regions, crowd=[0]))


def other_answers(number: int, record: Record) -> Record:
    record = every_task.with_all(number, record)
    asked = [replace(text, answer=text.answer and "never") for text in record.texts]
    return replace(record, texts=asked)


def but_one(change: Change) -> Change:
    """All pictures but the last are changed."""
    return lambda number, record: (change if number != 23 else every_task.with_all)(number, record)


def crowds_of_texts(number: int, record: Record) -> Record:
    record = crowds(number, record)
    for text in record.texts:
        text.span_chars, text.span_tokens, text.span_regions = [], [], []
        text.about = [0] if text.role == "statement" else []
    return record


ALIKE = r"no text is false of another.s picture\n +found: +different pictures .* {}, different texts: {}\n"
CROWDS = r"no text names the box of one thing\n +found: +boxes of crowds alone"
LACKING = [
    *((one_picture, task, ALIKE.format(1, 4)) for task in ("itc", "itm")),
    *((one_text, task, ALIKE.format(24, 1)) for task in ("itc", "itm")),
    *((change, "region", CROWDS) for change in (crowds, crowds_of_spans, crowds_of_texts)),
    (other_answers, "vqa", r"no question has a known answer\n +found: +never"),
]
SHORT = ("optim.epochs=1", "optim.batch=4", "development=0")


@pytest.fixture
def build(tmp_path, monkeypatch) -> Callable[[Change], None]:
    """Makes shards of records that are changed in this way."""
    monkeypatch.chdir(tmp_path)
    return lambda change: every_task.build(tmp_path, train=24, val=4, shards=2, change=change)


def train(task: str, *more: str) -> None:
    """A run of a few steps."""
    tasks = task if task.startswith("{") else f"{{{task}: {{}}}}"
    fit.main(["--run", "runs/a", "--set", f"tasks={tasks}", *SHORT, *more])


def assert_begins(task: str, *more: str) -> None:
    """It trains; at its end it may be told that nothing was asked."""
    with suppress(TrainingError):
        train(task, *more)
    assert Path("runs/a/checkpoints/last.json").exists()


@pytest.mark.parametrize(("change", "task", "said"), LACKING)
def test_what_leaves_nothing_to_learn_is_refused(build, change, task, said):
    build(change)
    with pytest.raises(
        FuselineError, match=rf"{task} would learn nothing from the 24 pictures looked at: {said}"
    ):
        train(task)
    assert not Path("runs").exists()


@pytest.mark.parametrize(("change", "task", "_said"), LACKING)
def test_a_single_other_picture_is_looked_for_in_a_whole_epoch(build, change, task, _said):
    build(but_one(change))
    assert_begins(task)


@pytest.mark.parametrize(("change", "task", "_said"), LACKING)
def test_each_dataset_is_looked_at_however_seldom_it_comes(build, change, task, _said):
    build(but_one(change))
    part_in_two()
    assert_begins(task, "datasets={toy: 30, other: 1}")


def part_in_two() -> None:
    """The second shard is of a dataset of its own."""
    known = manifest.load(Path("data"), DataManifest)
    known.shards["toy-001"].dataset = "other"
    manifest.save(Path("data"), known)


def one_picture_a_shard(number: int, record: Record) -> Record:
    return replace(every_task.with_all(number, record), group=f"toy:{number % 2}")


@pytest.mark.parametrize("task", ["itc", "itm", "{itc: {}, itm: {}}", "{itc: {bank: {slots: 8}}, itm: {}}"])
def test_pictures_of_different_datasets_are_in_no_batch_together(build, task):
    build(one_picture_a_shard)
    part_in_two()
    one = r"different pictures \(`group`\): 1, different texts: [24]"
    said = rf"it[cm] would learn nothing from the 24 .*\n +found: +toy: {one}; other: {one}"
    expected = "two of each, or more, in one dataset: a batch is of one"
    with pytest.raises(ShardError, match=rf"{said}\n +expected: +{expected}\n"):
        train(task)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("task", "more"),
    [
        ("itc", ["optim.accumulate=2"]),
        ("{itc: {bank: {slots: 8, warmup: 2}}}", []),
        ("{itc: {mined: 1}, itm: {}}", []),
    ],
)
def test_pictures_of_different_datasets_meet_in_a_step_of_several_parts_and_in_a_bank(build, task, more):
    build(one_picture_a_shard)
    part_in_two()
    assert_begins(task, *more)


@pytest.mark.parametrize("task", ["itc", "itm"])
def test_a_dataset_of_two_pictures_is_enough(build, task):
    build(but_one(one_picture_a_shard))
    part_in_two()
    assert_begins(task)


@pytest.mark.parametrize(("change", "task", "_said"), LACKING)
def test_a_single_picture_is_not_called_several(build, monkeypatch, change, task, _said):
    monkeypatch.setattr(first_records, "LOOKED_AT", 1)
    monkeypatch.setattr(first_records, "TURN", 1)
    build(change)
    with pytest.raises(FuselineError, match=f"{task} would learn nothing from the only picture looked at: "):
        train(task)


def test_a_run_that_left_a_damaged_record_out_goes_on(build, monkeypatch):
    build(one_picture)
    damage()
    skip = ("tasks={itc: {}}", *SHORT, "on_error=skip", "checkpoint_every=1")
    stopped_run(monkeypatch, "runs/a", 4, *skip)
    with suppress(TrainingError):
        fit.main(["--resume", "runs/a"])
    assert checkpoint.load_state(checkpoint.find(Path("runs/a"), "last")).step == 6


@pytest.mark.parametrize(("change", "task", "_said"), LACKING)
def test_where_a_record_is_damaged_nothing_is_refused(build, monkeypatch, change, task, _said):
    """Those before it were seen by then, and hold nothing of use."""
    monkeypatch.setattr(first_records, "TURN", 4)
    build(change)
    damage(row=8)
    assert_begins(task, "on_error=skip", "shuffle=none")


def damage(row: int = 3) -> None:
    """A record of the first shard is no JSON any more."""
    shard = Path("data/toy-000.tar")
    content = bytearray(shard.read_bytes())
    content[int(index.load(shard).rows["offset"][row, 0])] ^= 255
    shard.write_bytes(content)


@given(records(), st.data())
def test_a_box_is_looked_for_in_all_that_names_one(record, data):
    rows = range(len(record.regions.id))
    record.regions.crowd = [row for row in rows if data.draw(st.booleans())]
    named = {row for text in record.texts for row in text.about}
    named |= {row for text in record.texts for rows in text.span_regions for row in rows}
    assert first_records.UsableBox().found_in(record, "toy") == bool(named - set(record.regions.crowd))


WORDINGS = st.lists(st.sampled_from(["a ball", "a cube"]), max_size=2)
SEEN = st.lists(st.tuples(st.sampled_from("AB"), st.sampled_from("12"), WORDINGS), min_size=1, max_size=6)


@given(SEEN, st.booleans())
def test_another_picture_is_one_that_a_text_is_false_of(one_picture_alone, seen, by_dataset):
    sought = first_records.OtherPicture("itc", by_dataset)
    for dataset, group, said in seen:
        texts = [Text(id=words, role="statement", text=words, tokens=[1]) for words in said]
        found = sought.found_in(replace(synthetic.picture(0), group=group, texts=texts), dataset)
    assert found == has_other([(group, said) for of, group, said in seen if of == dataset or not by_dataset])
    error = sought.missing(one_picture_alone, "all")
    assert bool(error) == any(said for _, _, said in seen)


def has_other(seen: list[tuple[str, list[str]]]) -> bool:
    """Whether, of these pictures that may be contrasted, one has words that another is not said to have."""
    wordings = {words for _, said in seen for words in said}
    silent = {group for group, _ in seen} - {group for group, said in seen if said}
    return any(
        group != other and (other in silent or len(wordings) > 1)
        for group, said in seen
        for other, _ in seen
        if said
    )


SHARES = st.sampled_from([0.0, 1.0])


@given(st.fixed_dictionaries(dict.fromkeys(("random", "similar", "swapped", "masked"), SHARES)))
def test_itm_needs_no_other_picture_where_both_wrong_ones_may_be_its_own(one_picture_alone, shares):
    settings = convert({"tasks": {"itm": {"sources": shares}}}, Train)
    own = shares["swapped"] and shares["masked"]
    with nullcontext() if own else pytest.raises(ShardError, match="itm would learn nothing"):
        first_records.check(settings, one_picture_alone)


@pytest.fixture(scope="module")
def one_picture_alone(tmp_path_factory) -> Stream:
    """Records that are copies of one picture."""
    folder = tmp_path_factory.mktemp("alone")
    every_task.build(folder, train=8, val=4, shards=1, change=one_picture)
    return Stream(open_shards([str(folder / "data")], columns=["vit"]), ["itm"], batch=4)


def test_a_box_that_a_span_alone_names_is_one(build):
    build(spans_alone)
    assert_begins("region")


def test_a_run_that_has_begun_goes_on_whatever_comes(build, monkeypatch):
    monkeypatch.setattr(first_records, "LOOKED_AT", 4)
    monkeypatch.setattr(first_records, "TURN", 4)

    def first_alone(number: int, record: Record) -> Record:
        return (every_task.with_all if number < 8 else one_picture)(number, record)

    build(first_alone)
    stopped_run(monkeypatch, "runs/a", 4, "tasks={itc: {}}", *SHORT, "shuffle=none", "checkpoint_every=1")
    fit.main(["--resume", "runs/a"])
    assert checkpoint.load_state(checkpoint.find(Path("runs/a"), "last")).step == 6


def test_one_picture_is_enough_where_its_own_texts_and_view_are_the_wrong_ones(build):
    def linked(number: int, record: Record) -> Record:
        record = one_picture(number, record)
        for text in record.texts:
            if text.role == "statement":
                text.span_chars, text.span_tokens, text.span_regions = [(0, len(text.text))], [(0, 2)], [[0]]
        return record

    build(linked)
    sources = "{itm: {swapped: 1, sources: {random: 0, masked: 1, swapped: 1}}}"
    assert_begins(sources, "masking.fill=learned", "optim.batch=12")


def test_mined_pictures_are_others_wherever_the_records_come_from(build):
    build(one_picture)
    assert_begins("{itc: {mined: 1}}")


def test_pictures_of_which_nothing_is_said_are_others_too(build):
    def told_once(number: int, record: Record) -> Record:
        made = every_task.with_all(number, record)
        return made if number == 0 else replace(made, texts=[text for text in made.texts if text.answer])

    build(told_once)
    assert_begins("{vqa: {}, itc: {}}")


def test_what_counts_is_looked_for_in_as_many_pictures_whatever_the_batch(build):
    def late(number: int, record: Record) -> Record:
        return (crowds if number < 20 else every_task.with_all)(number, record)

    build(late)
    assert_begins("region", "optim.batch=1", "shuffle=none")
