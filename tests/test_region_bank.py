"""region's further negatives: boxes and phrases of earlier batches, and places whose object is hidden."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import synthetic
import synthetic_tasks
import torch
from hypothesis import given
from hypothesis import strategies as st
from killed_runs import fit_and_kill
from safetensors.numpy import load_file

from contract.errors import ParamsError
from training import fit
from training.batch import Batch
from training.batching.lattice import touching
from training.config import Bank, Region
from training.fusion import registry
from training.fusion.registry import Shape
from training.heads.region import RegionHead, _one_of_each
from training.heads.region_contrasts import sides
from training.heads.region_pairs import Pairs
from training.objectives.losses import equal_mass, info_nce
from training.objectives.memory_bank import WORDINGS
from training.objectives.region_bank import Links, RegionBank
from training.optimizing import checkpoint
from training.shards import open_shards
from training.starting.command_line import parser
from training.starting.preparing import prepare
from training.stream import Stream
from training.trunk.picture import Column, PictureEncoder
from training.trunk.trunk import Shared

HIDDEN = 16
GRID = Column("vit", synthetic.GRID, cls=True, width=synthetic.WIDTHS["vit"])


@pytest.fixture(scope="module")
def batches(tmp_path_factory) -> list[Batch]:
    """Three of eight pictures of two named regions each."""
    folder = tmp_path_factory.mktemp("phrases")
    synthetic.build(folder, train=24, shards=1, change=synthetic_tasks.with_phrases)
    shards = open_shards([str(folder / "data")], ["vit"])
    return list(islice(Stream(shards, ["region"], batch=8, text_negatives=3), 3))


@pytest.fixture(scope="module")
def look() -> PictureEncoder:
    torch.manual_seed(0)
    shape = Shape(hidden=HIDDEN, heads=2, dropout=0.0, alpha=0.5, layers=1, separate=1, repeats=1)
    return PictureEncoder([GRID], HIDDEN, registry.kind("none"), shape, "learned")


def shared(batch: Batch, look: PictureEncoder) -> Shared:
    generator = torch.Generator().manual_seed(batch.position)
    text = torch.randn(len(batch.tokens), 1 + batch.tokens.shape[1], HIDDEN, generator=generator)
    mask = torch.cat([torch.ones(len(text), 1, dtype=torch.bool), batch.token_mask], 1)
    return Shared(text, mask, *look(batch), batch.text_picture, look=look)


def head(**options) -> RegionHead:
    torch.manual_seed(0)
    return RegionHead(HIDDEN, GRID, Region(width=6, **options)).train()


def loss(made: RegionHead, batch: Batch, look: PictureEncoder) -> float:
    """Of an optimizer step of one part."""
    value = made(shared(batch, look), batch).loss.item()
    if made.bank is not None and made.training:
        made.take_in()
    return value


def pairs_of(made: RegionHead, batch: Batch, look: PictureEncoder) -> Pairs:
    return made.compared(shared(batch, look), batch)[0]


def test_an_unfilled_bank_changes_nothing(batches, look):
    """But for the last bits: products of other shapes are summed up in another order."""
    plain = loss(head(), batches[0], look)
    assert loss(head(bank=Bank(64)), batches[0], look) == pytest.approx(plain, rel=1e-6)


def test_the_bank_waits_for_its_warm_up_in_optimizer_steps_and_is_filled_meanwhile(batches, look):
    made, plain = head(bank=Bank(64, warmup=2)), head()
    for step in range(2):
        made.step = step
        assert loss(made, batches[step], look) == loss(plain, batches[step], look)
    made.step = 2
    assert loss(made, batches[2], look) > loss(plain, batches[2], look)


def test_a_filled_bank_is_more_columns_without_those_of_the_same_words(batches, look):
    made, plain = head(bank=Bank(64), fine=0.0), head(fine=0.0)
    loss(made, batches[0], look)
    earlier, now = (pairs_of(plain, batch, look) for batch in batches[:2])
    said = [text_words(batch, found) for batch, found in zip(batches, (earlier, now), strict=False)]
    same = torch.tensor([[words == other for other in said[0]] for words in said[1]])
    cosine = torch.cat([now.cosine, now.phrase @ earlier.box[earlier.links.box].T], 1)
    there = expected_side(cosine, now.linked, torch.cat([now.ignored, same], 1))
    mirrored = torch.cat([now.cosine.T, now.box @ earlier.phrase[earlier.links.phrase].T], 1)
    by_box = (now.linked.T.float() @ same.float()) > 0
    back = expected_side(mirrored, now.linked.T, torch.cat([now.ignored.T, by_box], 1))
    assert loss(made, batches[1], look) == pytest.approx(0.5 * (there + back), rel=1e-4)
    assert same.any() and not same.all()


def text_words(batch: Batch, found: Pairs) -> list[list[int]]:
    """What each whole text of the batch says, a phrase each and in their order."""
    rows = batch.about[:, 0].unique().tolist()
    assert len(rows) == len(found.phrase)
    return [batch.tokens[row][batch.token_mask[row]].tolist() for row in rows]


def expected_side(cosine, linked, ignored) -> float:
    padded = torch.nn.functional.pad(linked, (0, cosine.shape[1] - linked.shape[1]))
    return info_nce(14.3 * cosine, equal_mass(padded), ignored).item()


def test_boxes_of_a_phrases_own_picture_are_not_judged():
    bank = RegionBank(8, 2)
    earlier = Links(torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([5, 6]), torch.tensor([1, 2]))
    bank.see(earlier, torch.eye(2), torch.eye(2))
    bank.take_in()
    now = Links(torch.tensor([0, 1]), torch.tensor([0, 0]), torch.tensor([5, 7]), torch.tensor([3, 4]))
    assert bank.more_boxes(now, 2).ignored[:, :2].tolist() == [[True, False], [False, False]]
    assert bank.more_phrases(now, 1).ignored[:, :2].tolist() == [[True, False]]
    assert bank.more_boxes(now, 2).ignored[:, 2:].all()  # never filled


def links(*rows: tuple[int, int, int, int]) -> Links:
    """Of (phrase, box, group, words)."""
    return Links(*torch.tensor(rows).T)


def test_a_box_has_one_slot_whatever_names_it_and_a_wording_of_a_picture_one():
    bank = RegionBank(8, 3)
    seen = links((0, 0, 5, 1), (1, 0, 5, 2), (2, 0, 5, 1), (2, 1, 5, 1), (3, 2, 6, 1))
    phrase, box = torch.arange(12.0).reshape(4, 3), torch.arange(9.0).reshape(3, 3)
    bank.see(seen, phrase, box)
    bank.take_in()
    assert torch.equal(bank.boxes.vectors[bank.boxes.filled], box)
    assert torch.equal(bank.phrases.vectors[bank.phrases.filled], phrase[[0, 1, 3]])
    for words, alike in ((1, [True, True, True]), (2, [True, False, False]), (3, [False] * 3)):
        now = links((0, 0, 7, words))
        assert bank.more_boxes(now, 1).ignored[0, :3].tolist() == alike


@given(st.integers(1, 30))
def test_no_wording_of_a_box_is_lost(wordings):
    bank = RegionBank(8, 1)
    bank.see(links(*((n, 0, 5, 100 + n) for n in range(wordings))), torch.ones(wordings, 1), torch.ones(1, 1))
    bank.take_in()
    held = bank.boxes.ids[bank.boxes.filled]
    assert set(held[:, 1:].flatten().tolist()) == set(range(100, 100 + wordings))
    assert len(held) == -(-wordings // WORDINGS) and (held[:, 0] == 5).all()


def test_evaluation_neither_uses_nor_fills_the_bank(batches, look):
    made = head(bank=Bank(64))
    loss(made, batches[0], look)
    made.eval()
    assert loss(made, batches[1], look) == loss(head().eval(), batches[1], look)
    assert made.bank.boxes.written == len(batches[0].about)


def test_what_is_kept_has_no_gradient(batches, look):
    made = head(bank=Bank(64))
    made(shared(batches[0], look), batches[0]).loss.backward()
    for ring in (made.bank.boxes, made.bank.phrases):
        assert not ring.vectors.requires_grad
        torch.testing.assert_close(ring.vectors[ring.filled].norm(dim=1), torch.ones(int(ring.filled.sum())))


def test_one_named_box_of_each_picture_is_hidden(batches, look):
    found = pairs_of(head(), batches[0], look)
    chosen = _one_of_each(found, batches[0])
    pictures = batches[0].box_picture[found.row[chosen]]
    assert sorted(pictures.tolist()) == list(range(8)) and found.linked[:, chosen].any(0).all()
    assert torch.equal(chosen, _one_of_each(found, batches[0]))


def test_an_emptied_place_is_a_negative_of_the_phrases_that_name_it_and_of_no_other(batches, look):
    made, batch = head(masked=True), batches[0]
    known = shared(batch, look)
    plain, told = made.compared(known, batch)
    there, back = sides(made._with_more(plain, told, known, batch))
    chosen, boxes = _one_of_each(plain, batch), len(plain.box)
    assert there.cosine.shape[1] == boxes + len(chosen) and back.cosine.shape[1] == len(plain.phrase)
    assert torch.equal(~there.ignored[:, boxes:], plain.linked[:, chosen])
    assert not there.linked[:, boxes:].any()


def test_nothing_of_the_hidden_object_is_left_in_its_place(batches, look):
    made, batch = head(masked=True), batches[0]
    (before,) = made._emptied(pairs_of(made, batch, look), shared(batch, look), batch)
    chosen = _one_of_each(pairs_of(made, batch, look), batch)
    other = batch.features["vit"].clone()
    for row in chosen.tolist():
        x0, y0, _, _ = batch.boxes[row].tolist()
        cell = 1 + round(y0 * synthetic.GRID) * synthetic.GRID + round(x0 * synthetic.GRID)
        other[batch.box_picture[row], cell] += 7
        other[batch.box_picture[row], 0] -= 5  # CLS, which has seen it
    changed = replace(batch, features={"vit": other})
    (after,) = made._emptied(pairs_of(made, changed, look), shared(changed, look), changed)
    assert torch.equal(before.vectors, after.vectors)


@pytest.mark.parametrize("inside", [True, False])
def test_a_mask_puts_holes_into_true_boxes_and_holes_elsewhere_do_not_show_in_a_box(batches, look, inside):
    made, batch = head(), batches[0]
    cells = torch.nn.functional.pad(touching(batch.boxes, synthetic.GRID), (1, 0))
    named = torch.zeros_like(batch.visible["vit"]).index_put((batch.box_picture,), cells, accumulate=True)
    hidden = {"vit": (named if inside else ~named) & batch.visible["vit"]}
    visible = {"vit": batch.visible["vit"] & ~hidden["vit"]}
    plain, holed = (
        pairs_of(made, one, look).box for one in (batch, replace(batch, hidden=hidden, visible=visible))
    )
    assert hidden["vit"].any()
    assert torch.isclose(plain, holed).all(dim=1).tolist() == [not inside] * len(plain)


def test_where_nothing_can_be_hidden_there_is_no_such_negative(batches, look):
    made = head(masked=True)
    everything = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand_as(batches[0].boxes)
    whole = replace(batches[0], boxes=everything)
    assert loss(made, whole, look) == loss(head(), whole, look)


@pytest.fixture
def world(tmp_path, monkeypatch):
    synthetic.build(tmp_path, change=synthetic_tasks.with_phrases)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_with_a_bank_and_hidden_objects_goes_on_bit_for_bit(world, monkeypatch):
    region = "tasks={region: {masked: true, rank: 0.5, bank: {slots: 24, warmup: 2}}}"
    command = ["--set", region, "masking.fill=learned", "optim.epochs=2"]
    fit.main(["--run", "runs/whole", *command])
    fit_and_kill(monkeypatch, ["--run", "runs/killed", *command])
    fit.main(["--resume", "runs/killed"])
    whole, again = (weights(world / "runs" / run) for run in ("whole", "killed"))
    assert whole == again and any("bank.boxes.vectors" in name for name in whole)
    assert np.frombuffer(whole["heads.region.threshold.value"], np.float32).item() > 0


def test_a_run_that_begins_with_another_asks_for_no_lead_at_first(world):
    ranked = "tasks={region: {rank: 0.5}}"
    fit.main(["--run", "runs/a", "--set", ranked])
    asked = "heads.region.threshold.value"
    assert np.frombuffer(weights(world / "runs/a")[asked], np.float32).item() > 0
    new = prepare(parser().parse_args(["--init", "runs/a", "--set", ranked]))
    assert new.model.state_dict()[asked] == 0


def weights(run) -> dict[str, bytes]:
    tensors = load_file(checkpoint.find(run, "last") / "model.safetensors")
    return {name: array.tobytes() for name, array in tensors.items()}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["tasks={region: {bank: {slots: 99}}}"], "larger than the set.*texts with a box"),
        (["tasks={region: {bank: {slots: 8, warmup: 99}}}"], "never be used"),
        (["tasks={region: {masked: true}}"], "leaves nothing there"),
        (["tasks={region: {contrast: supcon, bank: {slots: 8}}}"], "of a batch with each other alone"),
        (["tasks={region: {contrast: supcon, masked: true}}", "masking.fill=mean"], "with each other alone"),
        (["tasks={region: {contrast: supcon, false_phrases: true}}"], "with each other alone.*false_phrases"),
        (["tasks={region: {false_phrases: true, coarse: 0}}"], "whose weight is 0 from start to end"),
        (["tasks={region: {rank: 1, negatives: 0}}"], "region.rank: looks at texts that are false"),
        (["tasks={region: {false_phrases: true, negatives: 0}}"], "false_phrases: looks at texts that are"),
    ],
)
def test_what_could_not_work_is_refused_before_the_run_is_made(world, settings, message):
    with pytest.raises(ParamsError, match=f"(?s){message}"):
        fit.main(["--run", "runs/a", "--set", *settings])
    assert not (world / "runs").exists()
