"""A task that nothing was asked of is said at the end, however smoothly the run went."""

from pathlib import Path

import every_task
import msgspec
import pytest
from msgspec.structs import replace
from test_fit import stopped_run, train

from contract.errors import ParamsError, TrainingError
from contract.record import Record
from training import fit
from training.heads import region
from training.optimizing import checkpoint, development
from training.optimizing.checkpoint import Sums
from training.starting import first_records

SHORT = ["optim.epochs=1", "optim.batch=8", "development=0", "log_every=1"]
REGION = "tasks={region: {}}"
SECOND = ("rank: 1", "false_phrases: true")  # of FG-CLIP 2, which look at false texts


def crowds(number: int, record: Record) -> Record:
    """Every box is one of many things, which no phrase names."""
    record = every_task.with_all(number, record)
    return replace(record, regions=replace(record.regions, crowd=list(range(len(record.regions.id)))))


def without_false_texts(number: int, record: Record) -> Record:
    record = every_task.with_all(number, record)
    return replace(record, texts=[replace(text, negatives=[]) for text in record.texts])


@pytest.fixture(autouse=True)
def unlooked(monkeypatch):
    """The first records are not looked at: they may hold what the rest lacks."""
    monkeypatch.setattr(first_records, "LOOKED_AT", 0)


@pytest.fixture
def built(tmp_path, monkeypatch):
    """Shards of records that are changed in this way."""
    monkeypatch.chdir(tmp_path)
    return lambda change: every_task.build(tmp_path, train=24, val=4, shards=1, change=change)


def logged(run: str, measure: str) -> list[str]:
    """What was logged of a measure while the run trained."""
    path = Path(run, "plots/metrics/train", f"{measure}.tsv")
    return path.read_text().splitlines()[1:] if path.is_file() else []


@pytest.mark.parametrize("tasks", [REGION, "tasks={vqa: {}, region: {}}"])
def test_a_run_without_a_usable_box_does_not_end_quietly(built, tasks):
    built(crowds)
    with pytest.raises(TrainingError, match=r"train\.tasks\.region: nothing in the whole run asked") as error:
        train("--run", "runs/a", "--set", tasks, *SHORT)
    assert error.value.status
    assert checkpoint.load_state(checkpoint.find(Path("runs/a"), "last")).step == 3, (
        "the others' work is kept"
    )
    with pytest.raises(TrainingError, match="nothing in the whole run asked"):
        train("--resume", "runs/a")


def test_false_texts_alone_where_there_are_none_are_nothing_to_learn_from(built):
    built(without_false_texts)
    with pytest.raises(TrainingError, match=r"train\.tasks\.region[\s\S]*0 answers for region/one_of_n\n"):
        train("--run", "runs/a", "--set", "tasks={region: {coarse: 0}}", *SHORT)


@pytest.mark.parametrize("region", [REGION, *(f"tasks={{region: {{fine: 0, {of}}}}}" for of in SECOND)])
def test_what_nothing_asks_for_is_no_zero_in_the_log_but_said_at_the_end(built, capsys, region):
    built(without_false_texts)
    train("--run", "runs/a", "--set", region, *SHORT)
    assert len(logged("runs/a", "region/matching")) == 3 and not logged("runs/a", "region/one_of_n")
    assert "nothing in the whole run asked for region/one_of_n" in capsys.readouterr().err


def test_what_was_asked_before_a_kill_counts(built, monkeypatch, capsys):
    """The last pictures alone may well ask nothing."""
    built(None)
    stopped_run(monkeypatch, "runs/a", 2, REGION, *SHORT, "checkpoint_every=1")
    monkeypatch.setattr(region, "one_of_n", lambda *_: {})
    monkeypatch.setattr(region, "matching", lambda *_: {})
    train("--resume", "runs/a")
    assert "asked for" not in capsys.readouterr().err
    assert len(logged("runs/a", "region/matching")) == 2


def test_a_run_that_did_not_note_what_was_asked_ends_as_ever(built):
    built(None)
    train("--run", "runs/a", "--set", REGION, *SHORT)
    last = checkpoint.find(Path("runs/a"), "last")
    state = checkpoint.load_state(last)
    state.asked = None
    (last / "state.json").write_bytes(msgspec.json.encode(state))
    assert fit.main(["--resume", "runs/a"]) == 0


@pytest.mark.parametrize("ends", ["", ", coarse_end: 0", ", fine_end: 0.0"])
def test_region_without_either_loss_is_refused(built, ends):
    built(None)
    with pytest.raises(ParamsError, match=r"train\.tasks\.region\.coarse: is 0 from start to end"):
        train("--run", "runs/a", "--set", f"tasks={{region: {{coarse: 0, fine: 0{ends}}}}}", *SHORT)
    assert not Path("runs").exists()


def test_a_loss_that_comes_only_in_the_end_is_enough(built):
    built(None)
    train("--run", "runs/a", "--set", "tasks={region: {coarse: 0, fine: 0, coarse_end: 1}}", *SHORT)
    assert len(logged("runs/a", "region/matching")) == 3


def of_one_picture(number: int, record: Record) -> Record:
    """All are copies of one, so that no text is wrong of any."""
    return replace(every_task.with_all(number, record), group="toy:0")


def test_matching_without_a_single_wrong_pair_does_not_end_quietly(built):
    built(of_one_picture)
    with pytest.raises(TrainingError, match=r"train\.tasks\.itm[\s\S]*0 answers for itm/balanced"):
        train("--run", "runs/a", "--set", "tasks={itm: {}}", *SHORT)


def test_a_run_that_patience_ends_tells_it_too(built, monkeypatch, capsys):
    built(without_false_texts)
    no_better = Sums(measures={"region/matching": (0.5, 1)})
    monkeypatch.setattr(development, "held_out", lambda *_: no_better)
    train(
        "--run", "runs/a", "--set", REGION, "optim.epochs=9", "optim.batch=8", "development=0.3", "patience=1"
    )
    said = capsys.readouterr().err
    assert "no better region/matching in 1 epoch" in said
    assert "nothing in the whole run asked for region/one_of_n" in said


def test_of_a_run_whose_beginning_is_not_known_nothing_is_told(built, monkeypatch, capsys):
    """Its checkpoint is of a version that kept no account of what was asked."""
    built(crowds)
    stopped_run(monkeypatch, "runs/a", 2, "tasks={vqa: {}, region: {}}", *SHORT, "checkpoint_every=1")
    path = checkpoint.find(Path("runs/a"), "last") / "state.json"
    state = msgspec.json.decode(path.read_bytes())
    assert "vqa/accuracy" in state.pop("asked")
    path.write_bytes(msgspec.json.encode(state))
    train("--resume", "runs/a")
    assert checkpoint.load_state(checkpoint.find(Path("runs/a"), "last")).asked is None
    assert "asked for" not in capsys.readouterr().err
