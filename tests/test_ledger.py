"""What the log says of the speed of training: of the time that was spent on it, and on nothing else."""

from pathlib import Path

import pytest
import synthetic

from training.distributed import ALONE
from training.optimizing import ledger
from training.optimizing.checkpoint import State, Sums
from training.optimizing.ledger import Ledger
from training.optimizing.step import Norms
from training.shards import open_shards
from training.stream import Stream


def test_scoring_and_checkpoints_are_no_part_of_the_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    synthetic.build(tmp_path)
    stream = Stream(open_shards([str(tmp_path / "data")], ["vit"]), ["vqa"], batch=4)
    now = [100.0]
    monkeypatch.setattr(ledger.time, "perf_counter", lambda: now[0])
    with Ledger(tmp_path / "run", 2, State(0, 0), stream, ALONE) as kept:
        now[0] += 4
        with kept.paused():
            now[0] += 60
        now[0] += 6
        stream.waited = 1.0
        kept.settle(State(1, 4, sums=Sums(loss=1.0, steps=1, texts=50)), due=True)
        kept.write_line(1, 0.1, Norms(1.0))
    assert "5 texts/s  waiting 10.0 %" in capsys.readouterr().err
