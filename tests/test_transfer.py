"""Batches on their way to a device: what travels, when its memory may be used again, and in which order."""

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest
import synthetic
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from contract.column import Dtype
from training import run
from training.batch import Batch
from training.batching.packing import pack
from training.batching.transfer import Batches, Transfer
from training.config import Masking, Model, Train
from training.forecast import batch_bytes, moved_bytes
from training.model.model import FusionModel
from training.reading.buffers import Buffers
from training.reading.meter import Meter
from training.shards import ShardSet, open_shards
from training.stream import Stream

CPU, GPU = torch.device("cpu"), torch.device("cuda")
DROP = Masking(ratio=0.75)
TINY = Model(hidden=16, heads=2, text_layers=1, head_layers=1, dropout=0.0)
on_a_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]


@pytest.fixture(scope="module", params=["float16", "int8"])
def shards(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return opened(tmp_path_factory.mktemp("shards"), request.param)


def opened(folder: Path, dtype: Dtype) -> ShardSet:
    synthetic.build(folder, dtype=dtype)
    return open_shards([str(folder / "data")], columns=["vit", "esam"])


def stream(shards: ShardSet, mask: Masking | None = None, stop: int = 32) -> Stream:
    return Stream(shards, ["vqa"], batch=8, mask=mask, seed=1, stop=stop)


def masked(shards: ShardSet) -> list[Batch]:
    return list(stream(shards, DROP))


def pools() -> dict[str, Buffers]:
    return {"vit": Buffers(), "esam": Buffers()}


def seen(batch: Batch) -> dict[str, Tensor]:
    """The features with zeros where nothing is visible."""
    return {name: tokens * batch.visible[name][..., None] for name, tokens in batch.features.items()}


def equal(one: Batch, other: Batch) -> bool:
    """Every field, and tensors also in their dtype."""
    return all(same(getattr(one, field.name), getattr(other, field.name)) for field in fields(Batch))


def same(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and torch.equal(one.cpu(), other.cpu())
    return one == other


def test_visible_tokens_come_back_to_their_places_and_zeros_to_the_others(shards):
    for batch in masked(shards):
        assert equal(pack(batch, pools()).to(CPU), replace(batch, features=seen(batch)))


def test_only_visible_tokens_travel(shards):
    (batch, *_) = masked(shards)
    packed = pack(batch, pools()).batch
    for name, tokens in batch.features.items():
        travels, visible = packed.features[name], batch.visible[name]
        assert travels.dtype == tokens.dtype and len(travels) == visible.sum() < 0.4 * visible.numel()


@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=4))
def test_any_mask_comes_back_as_it_was(mask):
    visible = torch.tensor(mask)
    parts = dict.fromkeys(field.name for field in fields(Batch))
    tokens = torch.randn(*visible.shape, 3)
    batch = Batch(**{**parts, "features": {"vit": tokens}, "visible": {"vit": visible}})
    assert torch.equal(pack(batch, pools()).to(CPU).features["vit"], tokens * visible[..., None])


def learned(model: FusionModel, batch: Batch) -> tuple[float, list[Tensor]]:
    model.train().zero_grad()
    loss = model(batch)["vqa"].loss
    loss.backward()
    return loss.item(), [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("compact", [True, False])
def test_training_is_the_same_with_only_the_visible_tokens(shards, compact):
    settings = Train(inputs={"grid": "vit", "pixel": "esam"}, model=TINY, masking=DROP)
    torch.manual_seed(0)
    model = run.build_model(settings, shards.features, shards.tokenizer, len(shards.answers))
    model.trunk.picture.compact = compact
    for batch in masked(shards):
        loss, gradients = learned(model, pack(batch, pools()).to(CPU))
        expected, wanted = learned(model, batch)
        assert loss == pytest.approx(expected, rel=1e-6)
        for gradient, other in zip(gradients, wanted, strict=True):
            torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-6)


def transferred(batches: Batches, packed: bool = False) -> Batches:
    return Transfer(CPU, Meter(), packed).ahead(batches)


def test_batches_and_positions_come_in_their_order(shards):
    made = [(batch.position, batch) for batch in masked(shards)]
    turns: list[tuple[int, Batch | None]] = [*made[:2], (99, None), *made[2:]]
    found = list(transferred(turn for turn in turns))
    assert [position for position, _ in found] == [position for position, _ in turns]
    for (_, one), (_, other) in zip(found, turns, strict=True):
        assert (one is None and other is None) or equal(one, other)


def test_what_was_packed_has_left_its_memory_when_it_is_handed_out(shards):
    """Its buffers serve the following batches, and no batch that is out changes by that."""
    batches = masked(shards)
    found = list(transferred(((batch.position, batch) for batch in batches), packed=True))
    for (_, batch), of in zip(found, batches, strict=True):
        assert equal(batch, replace(of, features=seen(of)))


def test_gathering_what_travels_is_metered(shards):
    for packed in (True, False):
        meter = Meter()
        list(Transfer(CPU, meter, packed).ahead((batch.position, batch) for batch in masked(shards)))
        assert (meter.seconds["copy"] > 0) == packed


def test_an_error_of_the_reader_comes_in_its_turn(shards):
    def broken() -> Batches:
        yield 8, masked(shards)[0]
        raise ValueError("the second is damaged")

    turns = transferred(broken())
    assert next(turns)[0] == 8
    with pytest.raises(ValueError, match="the second is damaged"):
        next(turns)


def test_who_ends_early_closes_the_reader(shards):
    closed = []

    def batches() -> Batches:
        try:
            yield from ((batch.position, batch) for batch in stream(shards, DROP))
        finally:
            closed.append(True)

    turns = transferred(batches())
    next(turns)
    turns.close()
    assert closed == [True]


def test_the_forecast_of_what_moves_is_what_is_packed(shards):
    (batch, *_) = masked(shards)
    packed = pack(batch, pools()).batch
    assert moved_bytes(batch, DROP) == batch_bytes(packed) < batch_bytes(batch)
    assert moved_bytes(batch, Masking(ratio=0.75, fill="zero")) == batch_bytes(batch)


def on_both(shards: ShardSet, mask: Masking | None) -> Iterator[tuple[Batch, Batch]]:
    """Batches of a GPU, all kept until the last has come, beside those of the CPU."""
    moved = list(stream(shards, mask, stop=800).on(GPU))
    return zip(moved, stream(shards, mask, stop=800), strict=True)


class TestOnAGpu:
    pytestmark = on_a_gpu

    def test_batches_are_those_of_the_cpu_though_buffers_are_used_again(self, shards):
        for moved, batch in on_both(shards, None):
            assert moved.tokens.device.type == "cuda"
            assert equal(moved, batch)

    def test_dropped_tokens_are_zero(self, shards):
        for moved, batch in on_both(shards, DROP):
            assert equal(moved, replace(batch, features=seen(batch)))

    def test_memory_of_the_reader_is_page_locked(self, shards):
        of = stream(shards)
        next(of.on(GPU))
        assert next(iter(of)).features["vit"].is_pinned()

    def test_waiting_for_copies_is_metered(self, shards):
        of = stream(shards)
        list(of.on(GPU))
        assert of.meter.seconds["device"] > 0

    def test_a_step_gives_the_loss_of_the_cpu(self, shards):
        settings = Train(inputs={"grid": "vit", "pixel": "esam"}, model=TINY, masking=DROP)
        model = run.build_model(settings, shards.features, shards.tokenizer, len(shards.answers))
        expected = [learned(model, batch)[0] for batch in stream(shards, DROP)]
        model.to(GPU)
        assert [learned(model, batch)[0] for batch in stream(shards, DROP).on(GPU)] == pytest.approx(
            expected, rel=1e-3
        )
