"""Pictures that are left out are counted over a whole run, however often it stops, and in the same order."""

from itertools import chain
from pathlib import Path

import pytest
import synthetic

from contract import index
from contract.errors import ParamsError, ShardError
from training import fit
from training.optimizing import checkpoint
from training.shards import open_shards
from training.stream import Stream

SETTINGS = ["--set", "optim.epochs=3", "log_every=1", "on_error=skip", "development=0"]
DAMAGED = (3, 8, 17)


class Stopped(Exception):
    """A kill."""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    synthetic.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    for number in DAMAGED:
        path = Path(f"features/vit/toy-{number % 4:03d}.tar")
        known, content = index.load(path), bytearray(path.read_bytes())
        content[int(known.rows["offset"][known.keys().index(synthetic.key(number)), 0]) + 700] ^= 1
        path.write_bytes(content)
    return tmp_path


def stopped_at(step: int, *arguments: str) -> None:
    """A run that ends as if killed just after a checkpoint."""
    save = checkpoint.save

    def until(*saved: object) -> None:
        save(*saved)  # type: ignore[arg-type]
        if any(isinstance(one, checkpoint.State) and one.step == step for one in saved):
            raise Stopped

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(checkpoint, "save", until)
        fit.main([*arguments])


def counted(run: str) -> str:
    return Path(run, "plots/metrics/train/skipped.tsv").read_text()


def test_a_run_leaves_out_as_many_as_it_may(world: Path) -> None:
    most = len(DAMAGED)
    fit.main(["--run", "runs/enough", *SETTINGS, f"max_skipped={most}"])
    with pytest.raises(ShardError, match=f"at most {most - 1}"):
        fit.main(["--run", "runs/fewer", *SETTINGS, f"max_skipped={most - 1}"])


def test_a_run_that_stops_counts_each_picture_once(world: Path) -> None:
    fit.main(["--run", "runs/whole", *SETTINGS])
    stopped_at(6, "--run", "runs/stopped", *SETTINGS)
    stopped_at(9, "--resume", "runs/stopped")
    fit.main(["--resume", "runs/stopped"])
    assert counted("runs/stopped") == counted("runs/whole")
    last = checkpoint.load_state(checkpoint.find(Path("runs/stopped"), "last"))
    assert len(last.skipped) == len(set(last.skipped)) == len(DAMAGED)


def test_the_limit_is_that_of_the_whole_run(world: Path) -> None:
    opened = open_shards(["data"], ["vit"])
    known = ["0:0", "1:1"]
    stream = Stream(opened, ["vqa"], batch=8, stop=40, on_error="skip", max_skipped=4, skipped=known)
    with pytest.raises(ShardError, match="5 of them[\\s\\S]*at most 4"):
        list(stream)


def test_what_was_skipped_before_is_left_out_unread(world: Path) -> None:
    opened = open_shards(["data"], ["vit"])
    first = Stream(opened, ["vqa"], batch=8, stop=40, on_error="skip")
    keys = [batch.keys for batch in first]
    again = Stream(opened, ["vqa"], batch=8, stop=40, skipped=first.left_out())  # on_error: stop
    assert [batch.keys for batch in again] == keys
    assert again.left_out() == dict.fromkeys(first.left_out(), "")


@pytest.mark.parametrize("ahead", [1, 5])
def test_what_is_read_ahead_is_not_told_yet(world: Path, ahead: int) -> None:
    opened = open_shards(["data"], ["vit"])
    stream = Stream(opened, ["vqa"], batch=4, stop=40, on_error="skip", ahead=ahead, shuffle="none")
    told = [len(stream.left_out()) for _ in stream]
    keys = list(chain.from_iterable(shard.index.keys() for shard in opened.shards))
    ends = sorted(keys.index(synthetic.key(number)) // 4 for number in DAMAGED)
    assert told == [sum(end <= batch for end in ends) for batch in range(10)]


@pytest.mark.parametrize("name", ["a", "0", "0:", "0:1:2", "0:x", "-1:0", "0:1:anchor:", "0:" + "9" * 5000])
def test_a_name_of_no_picture_is_refused(world: Path, name: str) -> None:
    with pytest.raises(ParamsError, match="skipped: names no picture"):
        Stream(open_shards(["data"], ["vit"]), ["vqa"], batch=2, skipped=["0:1:anchor", name])
