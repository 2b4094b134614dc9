"""The bank of cir's second stage: every picture a candidate, as an edit's record tells of it."""

from dataclasses import replace

import pytest
import synthetic
import synthetic_tasks
import torch
from msgspec import structs
from naive import naive_contrast
from test_cir_task import HIDDEN, SET, head, shared
from torch import Tensor

from training.batch import Batch
from training.config import Cir
from training.heads.cir import CirHead, gallery
from training.objectives.static_bank import StaticBank
from training.shards import open_shards
from training.stream import Stream

PICTURES = 16


def with_far_soft_targets(number, record):
    """Every edit with two soft targets: a picture of the next set, and one that is there nowhere."""
    record = synthetic_tasks.with_edits(number, record)
    (edit,) = record.texts
    soft = [synthetic.key((number - number % SET + SET) % PICTURES), "gone"]
    return structs.replace(record, texts=[structs.replace(edit, target=[*edit.target, *soft])])


@pytest.fixture(scope="module")
def batches(tmp_path_factory) -> list[Batch]:
    """All pictures in one batch, then four of them and what their edits name."""
    folder = tmp_path_factory.mktemp("edits")
    synthetic.build(folder, train=PICTURES, val=4, shards=1, change=with_far_soft_targets)
    shards = open_shards([str(folder / "data")], ["vit"])
    return [next(iter(Stream(shards, ["cir"], batch=size))) for size in (PICTURES, 4)]


def bank_of(whole: Batch, vectors: Tensor | None = None) -> StaticBank:
    """Of all pictures, in the order of their batch."""
    bank = StaticBank(3, 8)
    made = torch.zeros(len(whole.keys), 3, 8) if vectors is None else vectors
    bank.fill(made, whole.group_ids(), whole.key_ids())
    return bank


def test_a_bank_of_a_batchs_pictures_is_its_gallery(batches):
    whole, _ = batches
    wanted, found = gallery(whole), bank_of(whole).gallery(whole)
    assert torch.equal(found.target, wanted.target) and torch.equal(found.members, wanted.members)
    assert torch.equal(found.ignored, wanted.ignored)


def test_an_edit_sees_all_pictures_as_its_record_tells_also_those_outside_its_batch(batches):
    whole, few = batches
    found, named = bank_of(whole).gallery(few), lambda flags: {whole.keys[n] for n in flags.nonzero()[:, 0]}
    assert set(whole.keys) > set(few.keys)
    for row, edit in enumerate(few.rows["cir"].tolist()):
        own = few.keys[few.text_picture[edit]]
        number = int(own[1:])
        first = number - number % SET
        soft = synthetic.key((first + SET) % PICTURES)
        assert named(found.target[row]) == {few.keys[few.target[edit]]}
        assert named(found.ignored[row]) == {own, soft}
        assert named(found.members[row]) == {synthetic.key(n) for n in range(first, first + SET)} - {own}


def test_copies_of_target_reference_and_soft_targets_are_no_negatives(batches):
    """A second dataset holds the same pictures under keys of its own."""
    whole, _ = batches
    bank, groups = StaticBank(3, 8), whole.group_ids()
    bank.fill(torch.zeros(2 * PICTURES, 3, 8), groups.repeat(2), torch.cat([whole.key_ids(), groups]))
    once, found = gallery(whole), bank.gallery(whole)
    assert torch.equal(found.target[:, :PICTURES], once.target) and not found.target[:, PICTURES:].any()
    assert torch.equal(found.ignored[:, :PICTURES], once.ignored)
    assert torch.equal(found.ignored[:, PICTURES:], once.ignored | once.target)
    bank.fill(torch.zeros(2 * PICTURES, 3, 8), groups.repeat(2), torch.cat([groups, whole.key_ids()]))
    assert torch.equal(bank.gallery(whole).target[:, PICTURES:], once.target), "the one that is named"


def test_a_key_of_another_dataset_names_another_picture(batches):
    whole, few = batches
    other = replace(whole, dataset="other")
    bank, groups = StaticBank(3, 8), whole.group_ids()
    keys = torch.cat([other.key_ids(), whole.key_ids()])
    bank.fill(torch.zeros(2 * PICTURES, 3, 8), torch.cat([groups.flip(0) + 1, groups]), keys)
    for field, flags in structs.asdict(bank_of(whole).gallery(few)).items():
        found = getattr(bank.gallery(few), field)
        assert torch.equal(found[:, PICTURES:], flags) and not found[:, :PICTURES].any()


def test_a_target_that_the_bank_lacks_teaches_nothing(batches):
    whole, _ = batches
    bank, lacking = StaticBank(3, 8), whole.target[whole.rows["cir"][0]]
    kept = torch.arange(PICTURES) != lacking
    bank.fill(torch.zeros(PICTURES - 1, 3, 8), whole.group_ids()[kept], whole.key_ids()[kept])
    assert bank.gallery(whole).target.any(1).logical_not().nonzero()[:, 0].tolist() == [
        row for row, edit in enumerate(whole.rows["cir"].tolist()) if whole.target[edit] == lacking
    ]


def second_stage(batch: Batch) -> CirHead:
    torch.manual_seed(0)
    model = CirHead(HIDDEN, 2, 1, 0.0, Cir(queries=3, width=8, static_bank=True))
    vectors = torch.nn.functional.normalize(torch.randn(len(batch.keys), 3, 8), dim=-1)
    model.bank.fill(vectors, batch.group_ids(), batch.key_ids())
    return model


def test_the_loss_is_the_naive_loop_over_edits_and_the_whole_bank(batches):
    whole, few = batches
    model, found = second_stage(whole), bank_of(whole).gallery(few)
    queries = model.queries_of(shared(few), few.rows["cir"]).detach().double()
    scale = model.scale().item()
    scores = [
        [scale * max(float(query @ one) for one in picture) for picture in model.bank.vectors.double()]
        for query in queries
    ]
    wanted = naive_contrast(torch.tensor(scores), found.target, found.ignored)
    assert model.train()(shared(few), few).loss.item() == pytest.approx(wanted, rel=1e-5)


def test_only_what_asks_is_moved_and_what_scores_stays_that_of_the_first_stage(batches):
    whole, few = batches
    model, states = second_stage(whole), shared(few)
    model.train()(states, few).loss.backward()
    parts = {name: name.split(".")[0] for name, _ in model.named_parameters()}
    moved = {parts[name] for name, weights in model.named_parameters() if weights.grad is not None}
    trained = {parts[name] for name, weights in model.named_parameters() if weights.requires_grad}
    assert moved == trained == {"reader", "compose", "norm_compose", "query", "scale"}
    first = head()
    mine, known = model.state_dict(), first.state_dict()
    reading = ("queries", "read.", "norm_read.", "target.")
    model.load_state_dict({**mine, **{name: known[name] for name in known if name.startswith(reading)}})
    given = states.picture, states.visible
    assert torch.equal(model.eval().targets(*given), first.targets(*given))


def test_scoring_is_among_the_pictures_of_a_batch_as_in_the_first_stage(batches):
    whole, few = batches
    first, second = head(), second_stage(whole).eval()
    for measure in ("R@1_chance", "R_s@1_chance"):
        told = [made(shared(few), few).measures[measure] for made in (first, second)]
        assert told[0] == told[1]


def test_a_batch_without_an_edit_can_be_stepped_on(batches):
    whole, few = batches
    none = replace(few, rows={"cir": few.rows["cir"][:0]})
    outcome = second_stage(whole).train()(shared(none), none)
    outcome.loss.backward()
    assert outcome.loss.item() == 0 and outcome.measures["R@1"][1] == 0


def test_a_reader_that_follows_reads_as_the_head_does(batches):
    _, few = batches
    model, edits = second_stage(few).eval(), few.rows["cir"]
    with torch.no_grad():
        for weights in model.reader.parameters():
            weights.add_(1)
    apart = model.queries_of(shared(few), edits)
    model.reader.follow(model)
    again, model.reader = model.queries_of(shared(few), edits), None
    torch.testing.assert_close(again, model.queries_of(shared(few), edits))
    assert not torch.allclose(again, apart)
