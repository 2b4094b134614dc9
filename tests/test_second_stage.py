"""Runs of cir's second stage: what they begin with, what fills their bank, and what is refused."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import synthetic
import synthetic_tasks
import torch
from killed_runs import fit_and_kill
from safetensors.torch import load_file
from test_cir_task import SET
from test_faults import damaged_picture
from torch import Tensor

from contract.errors import MismatchError, ParamsError, ShardError
from contract.index import ABSENT
from training import evaluate, fit
from training.batching.eligible import held_out
from training.distributed import World
from training.optimizing import checkpoint, device
from training.shards import open_shards
from training.starting import bank_filling
from training.starting.command_line import parser
from training.starting.preparing import Prepared, prepare
from training.starting.streams import needs
from training.stream import Stream

SECOND = "tasks={cir: {static_bank: true}}"
HOLES = ["masking={ratio: 0.5, fill: mean}"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A folder with a run of the first stage."""
    folder = tmp_path_factory.mktemp("world")
    synthetic.build(folder, train=80, shards=2, change=synthetic_tasks.with_edits)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        fit.main(["--run", "runs/first", "--set", "tasks={cir: {}}", "optim.epochs=4", "development=0.1"])
        fit.main(["--run", "runs/other", "--set", "tasks={mfm: {}}", *HOLES])
    return folder


@pytest.fixture
def world(first, monkeypatch):
    monkeypatch.chdir(first)
    return first


def tensors(run, which="last") -> dict[str, Tensor]:
    return load_file(checkpoint.find(run, which) / "model.safetensors")


def test_a_second_stage_goes_on_bit_for_bit_and_leaves_what_is_frozen(world, monkeypatch, capsys):
    command = ["--init", "runs/first", "--set", SECOND, "optim.epochs=2", "development=0.1"]
    fit.main(["--run", "runs/whole", *command])
    assert "bank     80 pictures" in capsys.readouterr().out
    fit_and_kill(monkeypatch, ["--run", "runs/killed", *command])
    fit.main(["--resume", "runs/killed"])
    whole, again = tensors(world / "runs/whole"), tensors(world / "runs/killed")
    assert all(torch.equal(whole[name], again[name]) for name in whole | again)
    begun = tensors(world / "runs/first", "best")
    kept = {name for name in begun if torch.equal(begun[name], whole[name])}
    assert all(name in kept for name in begun if name.startswith(("trunk.picture.", "heads.cir.read.")))
    assert "heads.cir.query.weight" not in kept
    assert not torch.equal(whole["heads.cir.queries"], whole["heads.cir.reader.queries"])
    evaluate.main(["--run", "runs/whole"])
    chance = (world / "runs/whole/plots/metrics/train/cir/R@1_chance.tsv").read_text().splitlines()[-1]
    assert float(chance.split("\t")[-1]) == pytest.approx(1 / 79)  # all but the reference


def test_a_second_stage_begins_with_the_scores_of_the_first(world):
    """With a rate of next to nothing it ends as it began."""
    still = ["--set", SECOND, "optim.epochs=0.2", "optim.learning_rate=1e-12", "development=0.1"]
    fit.main(["--run", "runs/still", "--init", "runs/first", *still])
    before, after = tensors(world / "runs/first", "best"), tensors(world / "runs/still")
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, msg=name)
    for name in ("queries", "norm_read.weight", "read.0.norm.weight"):
        torch.testing.assert_close(after[f"heads.cir.reader.{name}"], before[f"heads.cir.{name}"])
    assert math.isfinite(after["heads.cir.scale.log"].item())


@pytest.mark.parametrize(
    ("command", "error", "message"),
    [
        (["--set", SECOND], ParamsError, "(?s)nothing has trained it.*--init that run"),
        (["--plan", "--set", SECOND], ParamsError, "nothing has trained it"),
        (
            ["--init", "runs/other", "--set", SECOND],
            MismatchError,
            r"(?s)lacks weights.*heads\.cir\.queries",
        ),
        (["--init", "runs/first", "--set", SECOND, "tasks.cir.width=16"], MismatchError, "of another shape"),
        (["--init", "runs/first", "--set", SECOND, "inputs={grid: esam}"], MismatchError, "other settings"),
        (["--init", "runs/first", "--set", SECOND, "model.heads=1"], MismatchError, "other settings"),
        (["--init", "runs/first", "--set", SECOND, "model.head_layers=2"], MismatchError, "head_layers 2"),
        (["--init", "runs/first", "--set", SECOND, "fusion.alpha=0.2"], MismatchError, "alpha=0.2"),
        (["--init", "runs/first", "--set", SECOND, "tasks.cir.gated=true"], MismatchError, "gated True"),
        (
            ["--init", "runs/first", "--set", "tasks={cir: {static_bank: true}, mfm: {}}", *HOLES],
            ParamsError,
            "(?s)no other task.*mfm",
        ),
    ],
)
def test_what_could_not_be_a_second_stage_is_refused(world, command, error, message):
    with pytest.raises(error, match=message):
        fit.main(["--run", "runs/none", *command])
    assert not (world / "runs/none").exists()


def begun(*more: str) -> Prepared:
    """A second stage before its first step."""
    return prepare(parser().parse_args(["--init", "runs/first", "--set", SECOND, *more]))


def filled(new: Prepared) -> Tensor:
    bank_filling.fill(new.model, new.stream, new.settings, CPU, [])
    return bank_filling.bank_of(new.model).vectors


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_bank_holds_what_the_head_makes_of_each_picture_in_scoring(world, precision):
    new = begun("model.dropout=0.5", f"precision={precision}")
    new.model.train()
    made = filled(new)
    (batch,) = Stream(new.shards, ["cir"], batch=80, stop=80, shuffle="none")
    new.model.eval()
    with torch.no_grad(), device.autocast(CPU, precision):
        wanted = new.model.heads["cir"].targets(*new.model.trunk.picture(batch))
    order = [batch.group_ids().tolist().index(one) for one in bank_filling.bank_of(new.model).group.tolist()]
    torch.testing.assert_close(made, wanted[order], rtol=0, atol=1e-2 if precision == "bfloat16" else 1e-5)
    assert (made == filled(begun())).all() == (precision == "float32")


def test_the_bank_is_of_the_datasets_that_are_trained_on_and_of_held_out_pictures_too(world):
    opened = open_shards(["data"], ["vit"])
    for shard in opened.shards[1:]:
        shard.dataset = "other"
    stream = Stream(opened, ["cir"], batch=8, development=0.5, datasets={"toy": 1})
    (found,) = bank_filling.pictures(stream)
    assert len(found) == opened.shards[0].index.rows.shape[0] > len(stream) > 0
    assert set(found.shard.tolist()) == {0}


@pytest.fixture
def damaged(world, tmp_path, monkeypatch):
    """A copy of the world in which a picture cannot be read that the edit of a held-out one leads to."""
    shutil.copytree(world, tmp_path / "copy", ignore=shutil.ignore_patterns("whole", "killed", "still"))
    monkeypatch.chdir(tmp_path / "copy")
    keys = np.array([synthetic.key(number).encode() for number in range(80)])
    number = next(n for n in held_out(keys, 0.1).nonzero()[0].tolist() if n % SET) // SET * SET
    return tmp_path / "copy", number, damaged_picture(tmp_path / "copy", number)


STEPS = ["--init", "runs/first", "--set", SECOND, "optim.epochs=2", "development=0.1"]


def test_a_picture_that_cannot_be_read_stops_a_second_stage_before_its_first_step(damaged):
    _, _, key = damaged
    with pytest.raises(ShardError, match=f"{key}.vit.npy is damaged"):
        fit.main(["--run", "runs/stopped", *STEPS])


def test_a_second_stage_without_a_picture_goes_on_bit_for_bit_though_it_is_mended(
    damaged, monkeypatch, capsys
):
    folder, number, key = damaged
    fit.main(["--run", "runs/skips", *STEPS, "on_error=skip"])
    said = capsys.readouterr().out
    assert said.count(f"{key}.vit.npy is damaged") == 1 and "bank     79 pictures" in said
    for run, saved in (("begun", 1), ("halfway", 2)):
        fit_and_kill(monkeypatch, ["--run", f"runs/{run}", *STEPS, "on_error=skip"], after=saved)
    damaged_picture(folder, number)  # the same bit once more
    capsys.readouterr()
    for run in ("begun", "halfway"):
        fit.main(["--resume", f"runs/{run}"])
        assert "bank     79 pictures" in capsys.readouterr().out
        one, other = tensors(folder / "runs/skips"), tensors(folder / f"runs/{run}")
        assert all(torch.equal(one[name], other[name]) for name in one | other)
        assert development(folder / "runs/skips") == development(folder / f"runs/{run}")


def development(run: Path) -> list[str]:
    """What was logged of it, without the times."""
    lines = (run / "plots/metrics/development/cir/R@1.tsv").read_text().splitlines()
    return [line.split("\t", 1)[1] for line in lines]


def test_bank_json_that_names_nothing_is_one_error(damaged):
    folder, _, _ = damaged
    fit.main(["--run", "runs/skips", *STEPS, "on_error=skip", "patience=1"])
    for content in ('{"p": 1}', '["x"]', '["0:1"'):
        (folder / "runs/skips/bank.json").write_text(content)
        with pytest.raises(MismatchError, match=r"bank\.json: names no pictures"):
            bank_filling.left_out(folder / "runs/skips")


def test_processes_that_cannot_read_the_same_fill_no_bank(tmp_path):
    class Two(World):
        def gather(self, told: bytes) -> list[bytes]:
            return [told, b'["0:1"]']

    bank_filling.keep(tmp_path, ["0:1"], Two(0, 2, 0))
    assert bank_filling.left_out(tmp_path) == ["0:1"]
    with pytest.raises(ShardError, match="cannot fill the bank"):
        bank_filling.keep(tmp_path, [], Two(0, 2, 0))


def test_an_edit_whose_target_no_encoder_took_is_not_asked(world, capsys):
    """Of each set of four two are left: the target of one is among those that are not."""
    new = begun("development=0", "optim.batch=80")
    absent = {synthetic.key(number) for first in range(0, 80, 4) for number in (first + 1, first + 2)}
    for shard in new.shards.shards:
        flags = shard.columns["esam"].index.rows["flags"]
        flags[np.isin(shard.index.names, [key.encode() for key in absent])] |= ABSENT
    new.stream = Stream(new.shards, needs(new.settings.tasks), batch=40)
    filled(new)
    assert len(bank_filling.bank_of(new.model).group) == 40 == bank_filling.without_feature(new.stream)
    batch = next(iter(new.stream))
    assert len(batch.keys) == 40 and len(batch.text_id) == 20
    found = bank_filling.bank_of(new.model).gallery(batch)
    assert (found.target.sum(1) == 1).all()


def test_more_pictures_than_a_run_may_leave_out_stop_it_before_its_first_step(damaged):
    folder, number, _ = damaged
    damaged_picture(folder, number + 1)
    with pytest.raises(ShardError, match="(?s)one more picture.*at most 1"):
        fit.main(["--run", "runs/stopped", *STEPS, "on_error=skip", "max_skipped=1"])


def test_a_second_stage_of_a_second_stage_keeps_its_reader(world):
    fit.main(["--run", "runs/again", *STEPS])
    still = ["optim.epochs=0.2", "optim.learning_rate=1e-12"]
    fit.main(["--run", "runs/third", "--init", "runs/again", "--set", SECOND, *still])
    before, after = tensors(world / "runs/again", "best"), tensors(world / "runs/third")
    moved = "heads.cir.reader.queries"
    assert not torch.allclose(before[moved], before["heads.cir.queries"])
    torch.testing.assert_close(after[moved], before[moved])
    with pytest.raises(MismatchError, match="(?s)is a second stage.*static_bank: true"):
        fit.main(["--run", "runs/none", "--init", "runs/again", "--set", "tasks={cir: {}}"])
    fit.main(["--run", "runs/mfm", "--init", "runs/again", "--set", "tasks={mfm: {}}", *HOLES])


def test_a_run_that_has_ended_looks_at_no_picture_again(world, capsys):
    fit.main(["--run", "runs/ended", *STEPS])
    capsys.readouterr()
    fit.main(["--resume", "runs/ended"])
    said = capsys.readouterr().out
    assert "done: " in said and "bank " not in said


def test_a_plan_tells_of_the_bank_and_refuses_what_the_run_would(world, capsys):
    fit.main(["--plan", "--init", "runs/first", "--set", SECOND])
    said = capsys.readouterr().out
    assert "bank     80 pictures are read before the first step; their vectors take 0.3 MiB" in said
    with pytest.raises(MismatchError, match="of another shape"):
        fit.main(["--plan", "--init", "runs/first", "--set", SECOND, "tasks.cir.width=16"])


def test_what_a_run_leaves_of_another_is_said(world, capsys):
    tasks = "tasks={mfm: {}}"
    fit.main(["--run", "runs/less", "--init", "runs/first", "--set", tasks, *HOLES, "optim.epochs=0.2"])
    left = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("left ")]
    assert "heads.cir.queries:" in left and all(name.startswith("heads.cir.") for name in left)
    capsys.readouterr()
    fit.main(["--plan", "--init", "runs/first", "--set", "tasks={cir: {width: 64}}"])
    left = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("left ")]
    assert left == ["heads.cir.query:", "heads.cir.target:"]


def test_a_second_stage_reads_the_references_alone_and_scores_among_all_that_edits_name(world):
    new = begun("development=0.2", "optim.batch=4")
    batch = next(iter(new.stream))
    assert len(batch.keys) == 4 and set(batch.rows["cir"].tolist()) == set(range(len(batch.tokens)))
    assert any(key < 0 for key in batch.target.tolist())
    held = next(iter(new.development))
    assert len(held.keys) > 16 and (held.target >= 0).all() and (held.members >= 0).any()
