"""The learning rate: its curves, and the factors of parts of the model."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from contract.errors import ParamsError
from training.config import Cir, Masking, Mfm, Model, Optim, Region, Tasks, Train, Vqa
from training.model.model import build
from training.optimizing import optim
from training.optimizing.learning_rate import SCHEDULES, learning_rate
from training.trunk.picture import Column

PEAK = 0.5


def rates(schedule: str, steps: int, warmup: float) -> list[float]:
    settings = Optim(learning_rate=PEAK, schedule=schedule, warmup=warmup)
    return [learning_rate(step, steps, settings) for step in range(steps)]


@given(st.sampled_from(sorted(SCHEDULES)), st.integers(1, 300), st.floats(0, 1))
def test_a_rate_is_never_above_the_peak_nor_below_zero(schedule, steps, warmup):
    found = rates(schedule, steps, warmup)
    assert all(0 <= rate <= PEAK * (1 + 1e-9) for rate in found)
    top = found.index(max(found))
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)


@pytest.mark.parametrize(("schedule", "last"), [("cosine", 0.01), ("one_cycle", 0.01), ("constant", 1.0)])
def test_where_each_schedule_ends(schedule, last):
    found = rates(schedule, 200, 0.1)
    assert max(found) == pytest.approx(PEAK, rel=0.01)
    assert found[0] < PEAK / 10
    assert found[-1] <= last * PEAK and (last < 1 or found[-1] == PEAK)


@pytest.mark.parametrize(("steps", "warmup"), [(100, 1 / 50), (250, 0.1), (60, 0.5)])
def test_one_cycle_is_that_of_torch(steps, warmup):
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=PEAK)
    oracle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=PEAK, total_steps=steps, pct_start=warmup, cycle_momentum=False
    )
    for rate in rates("one_cycle", steps, warmup):
        assert rate == pytest.approx(oracle.get_last_lr()[0], rel=1e-6)
        optimizer.step()
        if oracle.last_epoch < steps - 1:
            oracle.step()


def model() -> nn.Module:
    inner = nn.ModuleDict({"text": nn.Linear(2, 2), "text_fusion": nn.Linear(2, 2)})
    frozen = nn.Linear(2, 2).requires_grad_(False)
    return nn.ModuleDict({"trunk": inner, "head": nn.Linear(2, 2), "frozen": frozen})


def learnt_at(groups: dict[str, float]) -> dict[str, float]:
    """Parameter → its learning rate when the schedule's is 1."""
    built = model()
    optimizer = optim.build(built, Optim(groups=groups))
    optim.set_learning_rate(optimizer, 1.0)
    by_id = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    return {name: by_id[id(p)] for name, p in built.named_parameters() if id(p) in by_id}


def test_the_longest_prefix_of_whole_parts_gives_the_factor():
    found = learnt_at({"trunk": 0.5, "trunk.text": 0.1})
    assert found["trunk.text.weight"] == found["trunk.text.bias"] == 0.1
    assert found["trunk.text_fusion.weight"] == 0.5
    assert found["head.weight"] == 1.0
    assert not any(name.startswith("frozen") for name in found)


FREE = {"trunk.text.places", "heads.cir.queries", "heads.cir.prompt"}  # matrices that stand for no map


@pytest.mark.parametrize("groups", [{}, {"trunk.text": 0.1}])
def test_of_a_whole_model_maps_and_words_decay_and_nothing_else(groups):
    settings = Train(
        tasks=Tasks(vqa=Vqa(), region=Region(pooling="attention"), cir=Cir(), mfm=Mfm()),
        inputs={"grid": "vit"},
        model=Model(hidden=32),
        masking=Masking(ratio=0.3, fill="learned"),
    )
    built = build(settings, [Column("vit", 4, True, 8)], vocabulary=30, answers=10)
    optimizer = optim.build(built, Optim(groups=groups, weight_decay=0.05))
    decayed = {id(p) for group in optimizer.param_groups for p in group["params"] if group["weight_decay"]}
    matrices = {name for name, p in built.named_parameters() if p.ndim >= 2}
    assert {name for name, p in built.named_parameters() if id(p) in decayed} == matrices - FREE
    assert matrices > FREE


@pytest.mark.parametrize("prefix", ["trunk.txt", "trunk.tex", "frozen"])
def test_a_part_that_is_not_there_or_not_trained_lists_the_model(prefix):
    with pytest.raises(ParamsError, match=r"head[\s\S]*trunk\.text"):
        optim.check_groups(model(), {"trunk": 1.0, prefix: 0.1})
