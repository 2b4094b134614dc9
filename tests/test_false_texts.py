"""region's false texts: as phrases of the contrast, and how far the true ones are ahead of them."""

import math
from dataclasses import replace
from itertools import islice

import pytest
import synthetic
import synthetic_tasks
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from naive import naive_contrast

from contract.record import Record
from training.batch import Batch
from training.config import Region
from training.distributed import World
from training.heads.region import RegionHead
from training.heads.region_pairs import false_phrases
from training.objectives.losses import intra_modal, one_of, rank
from training.objectives.rank_threshold import RankThreshold
from training.shards import open_shards
from training.stream import Stream
from training.trunk.picture import Column
from training.trunk.trunk import Shared

HIDDEN = 16
GRID = Column("vit", synthetic.GRID, cls=True, width=synthetic.WIDTHS["vit"])


@pytest.fixture(scope="module")
def batches(tmp_path_factory) -> list[Batch]:
    """Two of eight pictures of two regions; one phrase of a picture has three false texts, the other none."""
    folder = tmp_path_factory.mktemp("phrases")
    synthetic.build(folder, train=16, shards=1, change=one_with_false_texts)
    shards = open_shards([str(folder / "data")], ["vit"])
    return list(islice(Stream(shards, ["region"], batch=8, text_negatives=10), 2))


def one_with_false_texts(number: int, record: Record) -> Record:
    made = synthetic_tasks.with_phrases(number, record)
    made.texts[1] = structs.replace(made.texts[1], negatives=[])
    return made


def shared(batch: Batch) -> Shared:
    generator = torch.Generator().manual_seed(batch.position)
    text = torch.randn(len(batch.tokens), 1 + batch.tokens.shape[1], HIDDEN, generator=generator)
    picture = torch.randn(len(batch.keys), GRID.grid**2 + GRID.cls, HIDDEN, generator=generator)
    mask = torch.cat([torch.ones(len(text), 1, dtype=torch.bool), batch.token_mask], 1)
    return Shared(text, mask, picture, batch.visible["vit"], batch.text_picture)


def head(**options) -> RegionHead:
    torch.manual_seed(0)
    return RegionHead(HIDDEN, GRID, Region(width=6, **options)).train()


def test_a_false_text_is_a_negative_of_its_box_and_of_other_pictures_boxes_that_nothing_so_named(batches):
    batch, model = batches[0], head()
    pairs, told = model.compared(shared(batch), batch)
    found = false_phrases(told, pairs, batch)
    said = {
        box: {words(batch, text) for text, other in batch.about.tolist() if other == box}
        for box in range(len(batch.boxes))
    }
    asked = told.false.nonzero().tolist()
    assert len(asked) == 3 * len(batch.keys) == len(found.vectors)
    for column, (row, false) in enumerate(asked):
        true, text = told.text[row, 0].item(), told.text[row, 1 + false].item()
        own = [box for name, box in batch.about.tolist() if name == true]
        for place, box in enumerate(pairs.row.tolist()):
            neighbour = batch.box_picture[box] == batch.text_picture[true] and box not in own
            named = words(batch, text) in said[box]
            assert found.ignored[place, column] == bool(neighbour or named)
    assert found.ignored.any(0).all() and (~found.ignored).any(0).all()


def test_a_copy_of_a_picture_is_asked_no_more_of_than_the_picture_itself(batches):
    """The first two pictures are one, by two names: what is false of a box of either may be true of the
    other's.
    """
    batch = batches[0]
    copied = replace(batch, groups=[batch.groups[1], *batch.groups[1:]])
    model = head()
    pairs, told = model.compared(shared(copied), copied)
    ignored = false_phrases(told, pairs, copied).ignored
    row, false = told.false.nonzero(as_tuple=True)
    asks, shown = copied.text_picture[told.text[row, 1 + false]], copied.box_picture[pairs.row]
    for one, other in ((0, 1), (1, 0)):
        assert ignored[shown == one][:, asks == other].all()
    assert not ignored[shown == 2][:, asks < 2].all()


def words(batch: Batch, row: int) -> tuple[int, ...]:
    return tuple(batch.tokens[row][batch.token_mask[row]].tolist())


def test_the_contrast_of_boxes_goes_over_false_texts_too(batches):
    """The naive loop, of which the way from phrases to boxes is as it was."""
    batch, model = batches[0], head(false_phrases=True, fine=0.0)
    pairs, told = model.compared(shared(batch), batch)
    more, scale = false_phrases(told, pairs, batch), model.coarse().item()
    plain = scale * pairs.phrase.double() @ pairs.box.double().T
    wider = torch.cat([plain.T, scale * pairs.box.double() @ more.vectors.double().T], 1)
    linked = torch.nn.functional.pad(pairs.linked.T, (0, len(more.vectors)))
    there = naive_contrast(plain, pairs.linked, pairs.ignored)
    back = naive_contrast(wider, linked, torch.cat([pairs.ignored.T, more.ignored], 1))
    assert model(shared(batch), batch).loss.item() == pytest.approx((there + back) / 2, rel=1e-5)
    assert model.eval()(shared(batch), batch).loss.item() == pytest.approx(
        (there + naive_contrast(plain.T, pairs.linked.T, pairs.ignored.T)) / 2, rel=1e-5
    )


def test_rank_and_intra_are_added_by_their_weights(batches):
    batch, model = batches[0], head(coarse=0.0, fine=2.0, rank=0.3, intra=0.7)
    model.threshold.value.fill_(4.0)
    pairs, told = model.compared(shared(batch), batch)
    logits = model.fine() * told.cosine
    coarse, fine = model(shared(batch), batch).losses
    torch.testing.assert_close(coarse, 0.7 * intra_modal(pairs.phrase, pairs.label))
    ahead = rank(logits, told.real, torch.tensor(4.0))
    torch.testing.assert_close(fine, 2.0 * one_of(logits, told.real) + 0.3 * ahead)
    assert ahead > 0


def test_the_threshold_is_how_far_true_texts_were_ahead_in_the_step_before(batches):
    model = head(rank=1.0)
    ahead = []
    for batch in batches:
        pairs, told = model.compared(shared(batch), batch)
        assert model.threshold.value == pytest.approx(max([0.0, *ahead[-1:]]), rel=1e-5)
        logits = (model.fine() * told.cosine).double()
        asks = told.false.any(1)
        ahead.append((logits[asks, 0].mean() - logits[:, 1:][told.false].mean()).item())
        model(shared(batch), batch)
        model.take_in()
    assert ahead[0] > 0 or ahead[1] > 0


def test_scoring_leaves_the_threshold_as_it_is(batches):
    model = head(rank=1.0).eval()
    model(shared(batches[0]), batches[0])
    model.take_in(parts=())
    assert model.threshold.value == 0


@given(st.lists(st.lists(st.floats(-30, 30), min_size=2, max_size=4), min_size=1, max_size=6), st.data())
def test_the_threshold_is_the_same_however_a_step_is_cut_and_lies_within_its_limits(rows, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    parts = [rows[a:b] for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    made = RankThreshold()
    for part in parts:
        made.see(*logits(part))
    made.take_in(range(len(parts)), len(parts))
    true, false = [row[0] for row in rows], [x for row in rows for x in row[1:]]
    wanted = min(10.0, max(0.0, math.fsum(true) / len(true) - math.fsum(false) / len(false)))
    assert made.value.item() == pytest.approx(wanted, abs=1e-4)


def logits(rows: list[list[float]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Padded to three false ones."""
    table = torch.tensor([row + [9e9] * (4 - len(row)) for row in rows]).reshape(len(rows), 4)
    return table[:, 0], table[:, 1:], table[:, 1:] < 1e9


def test_a_step_without_false_texts_leaves_the_threshold():
    made = RankThreshold()
    made.value.fill_(3.0)
    made.see(torch.ones(2), torch.ones(2, 0), torch.ones(2, 0).bool())
    made.take_in()
    assert made.value == 3


def test_processes_take_the_mean_over_all_of_them():
    """Of a world that adds what another process saw: its part is the second of the step."""

    class Two(World):
        def add(self, table: torch.Tensor) -> None:
            table[1] += torch.tensor([4.0, 1.0, -2.0, 1.0])

    made = RankThreshold()
    made.see(torch.tensor([2.0]), torch.tensor([[0.0]]), torch.tensor([[True]]))
    made.take_in((0,), 2, Two(0, 2, 0))
    assert made.value == 4  # (2 + 4) / 2 − (0 − 2) / 2
