"""A contrast over 512 pictures at the memory of 64."""

from pathlib import Path

import pytest
import statements
from safetensors.numpy import load_file
from test_fit import losses, train, weights

from training.model.model import FusionModel
from training.model.momentum import MomentumEncoder
from training.optimizing import checkpoint

ONE = ["tasks.itc={}", "optim.batch=512", "optim.epochs=3", "model.dropout=0", "development=0"]


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_eight_parts_of_64_train_as_one_batch_of_512(tmp_path, monkeypatch, loss):
    statements.build(tmp_path, train=512)
    monkeypatch.chdir(tmp_path)
    train("--run", "runs/plain", "--set", *ONE, f"tasks.itc.loss={loss}")
    train("--run", "runs/cached", "--set", *ONE, f"tasks.itc.loss={loss}", "optim.accumulate=8")
    plain, cached = (losses(Path(f"runs/{name}")) for name in ("plain", "cached"))
    assert [step for step, _ in plain] == [1, 2, 3]
    for (_, a), (_, b) in zip(plain, cached, strict=True):
        assert float(a) == pytest.approx(float(b), rel=1e-5)
    a, b = (
        load_file(checkpoint.find(Path(f"runs/{name}"), "last") / "model.safetensors")
        for name in ("plain", "cached")
    )
    assert ("heads.itc.bias" in a) == (loss == "sigmoid")
    moved = {name: abs(a[name] - b[name]).max() for name in a}
    assert max(moved.values()) < 1e-3, moved  # three steps of 0.003 each


def test_apart_the_parts_would_have_another_loss(tmp_path, monkeypatch):
    """Else the test above could not fail: a text has 63 wrong pictures in a part, and 511 in all."""
    statements.build(tmp_path, train=512)
    monkeypatch.chdir(tmp_path)
    train("--run", "runs/a", "--set", *ONE, "optim.epochs=1")
    train("--run", "runs/b", "--set", *ONE, "optim.epochs=1", "optim.batch=64", "optim.learning_rate=1e-9")
    (_, whole), *_ = losses(Path("runs/a"))
    apart = [float(loss) for _, loss in losses(Path("runs/b"))]
    assert len(apart) == 8
    assert float(whole) > sum(apart) / 8 + 0.5


def test_each_part_has_its_keys_made_once_and_they_are_the_same(tmp_path, monkeypatch):
    """A run is equal, bit for bit, to one that makes them again beside the cached gradients."""
    statements.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    tasks = (
        "tasks={itc: {momentum: 0.9, alpha: 0.4, bank: {slots: 12, warmup: 1}}, itm: {sources: {similar: 1}}}"
    )
    settings = ["--set", tasks, "optim.batch=8", "optim.accumulate=4", "optim.epochs=1", "log_every=1"]
    made, key, shared = [], MomentumEncoder.forward, FusionModel._shared

    def counted(encoder, batch):
        made.append(batch.position)
        return key(encoder, batch)

    monkeypatch.setattr(MomentumEncoder, "forward", counted)
    train("--run", "runs/once", *settings, "development=0")
    once = list(made)
    monkeypatch.setattr(FusionModel, "_shared", lambda self, batch, keyed: shared(self, batch, keyed=True))
    train("--run", "runs/twice", *settings, "development=0")
    assert len(set(once)) == len(once) == 4 * len(losses(Path("runs/once")))
    assert len(made) == 3 * len(once)
    assert losses(Path("runs/once")) == losses(Path("runs/twice"))
    assert weights(Path("runs/once")) == weights(Path("runs/twice"))
