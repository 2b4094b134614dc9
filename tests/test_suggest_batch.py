"""Command suggest-batch: it measures, chooses and changes nothing."""

from pathlib import Path

import pytest
import yaml
from column_project import build

from contract.errors import FuselineError
from data_pipeline.__main__ import main
from data_pipeline.stages.suggest_batch import BATCHES, Speed, choose, suggestion, thread_counts


def test_the_smallest_batch_near_the_best_speed_of_a_core_is_chosen() -> None:
    speeds = [Speed(1, 1, 10), Speed(4, 1, 19.5), Speed(16, 1, 20), Speed(16, 2, 38), Speed(64, 2, 41)]
    assert choose(speeds) == Speed(4, 1, 19.5)
    assert choose([*speeds, Speed(64, 4, 100)]) == Speed(64, 4, 100)  # a large batch in one process's cache


def test_the_suggestion_uses_every_core_once() -> None:
    lines = yaml.safe_load(suggestion("vit", Speed(8, 2, 10), 9).rpartition("\n\n")[0])
    assert lines == {"workers": 4, "encoders": {"vit": {"batch": 8, "threads": 2}}}
    assert thread_counts(1) == [1] and thread_counts(6) == [1, 2, 4]


def test_every_combination_is_measured_and_nothing_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    build(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    main(["suggest-batch", "esam", "--seconds", "0.001"])
    lines = capsys.readouterr().out.splitlines()
    assert [int(line.split()[0]) for line in lines[1 : 1 + len(BATCHES)]] == list(BATCHES)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for seconds in ("0", "-1", "nan", "a while"):
        with pytest.raises(SystemExit, match="2"):
            main(["suggest-batch", "esam", "--seconds", seconds])
        assert "is no time" in capsys.readouterr().err
    with pytest.raises(FuselineError, match="esan"):
        main(["suggest-batch", "esan"])
