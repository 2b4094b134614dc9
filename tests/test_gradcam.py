"""Grad-CAM of itm: the published properties, against a plain computation of the same, and patches by it."""

from dataclasses import replace

import pytest
import statements
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import WORDS

from contract.errors import ParamsError
from training.batch import Batch
from training.config import Fusion, Itm, Model, Tasks, Train, Vqa
from training.evaluation.gradcam import MEAN, SUMMARY, TOKENS, attention_map, gradcam, patches
from training.fusion.registry import FUSIONS
from training.heads.itm import ItmHead
from training.model.model import FusionModel, build
from training.modules.attention import ByPicture
from training.trunk.picture import Column
from training.trunk.trunk import Shared

HIDDEN, LENGTH, CELLS = 16, 6, 9
LENGTHS = [5, 3, 0, 4]  # tokens of each text
TEXT, PICTURE = torch.tensor([0, 1, 2, 3, 1]), torch.tensor([1, 0, 1, 1, 1])


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=[False, True], ids=["one way", "both ways"])
def head(request) -> ItmHead:
    torch.manual_seed(0)
    return ItmHead(HIDDEN, 2, 3, 0.1, Itm(two_way=request.param)).eval()


@pytest.fixture
def shared() -> Shared:
    mask = torch.arange(1 + LENGTH - 1) < torch.tensor(LENGTHS)[:, None] + 1
    visible = torch.ones(2, CELLS, dtype=torch.bool)
    visible[1, 6:] = False
    return Shared(
        drawn(4, LENGTH, HIDDEN), mask, drawn(2, CELLS, HIDDEN, seed=1), visible, torch.zeros(4).long()
    )


def test_a_map_is_nowhere_negative_and_not_empty(head, shared):
    cam = attention_map(head, shared, TEXT, PICTURE)
    assert cam.shape == (5, 1 + LENGTH, CELLS)
    assert (cam >= 0).all() and (cam[:, SUMMARY] > 0).any(1).all()


def test_padded_tokens_and_hidden_cells_have_no_map(head, shared):
    cam = attention_map(head, shared, TEXT, PICTURE)
    for row, (text, picture) in enumerate(zip(TEXT, PICTURE, strict=True)):
        assert (cam[row, TOKENS:][~shared.text_mask[text, 1:]] == 0).all()
        assert (cam[row][:, ~shared.visible[picture]] == 0).all()


def test_row_1_is_the_mean_of_the_rows_of_real_tokens(head, shared):
    cam = attention_map(head, shared, TEXT, PICTURE)
    for row, text in enumerate(TEXT.tolist()):
        tokens = cam[row, TOKENS:][: LENGTHS[text]]
        expected = tokens.mean(0) if len(tokens) else torch.zeros(CELLS)
        torch.testing.assert_close(cam[row, MEAN], expected)


def test_a_pairs_map_does_not_depend_on_its_batch_mates(head, shared):
    together = attention_map(head, shared, TEXT, PICTURE)
    alone = [
        attention_map(head, shared, text[None], picture[None])
        for text, picture in zip(TEXT, PICTURE, strict=True)
    ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-7)


def test_a_map_is_attention_times_its_positive_slope(head, shared):
    """The block computed by hand for one pair, its attention a leaf."""
    text, picture = torch.tensor([0]), torch.tensor([1])
    block = head.blocks[1]
    x, mask = shared.text[text], shared.text_mask[text]
    pictures, seen, rows = head.read(shared, text, picture)
    tokens, visible, where = pictures[rows], seen[rows], ByPicture(rows, len(pictures))
    x = head.blocks[0](x, mask, pictures, seen, where, LENGTH)
    normed = block.norm(x)
    x = x + block.attention(normed, normed, mask)
    heads = lambda part: part.unflatten(-1, (2, -1)).transpose(1, 2)  # noqa: E731
    key, value = (heads(part) for part in block.cross.key_value(tokens).chunk(2, -1))
    scores = heads(block.cross.query(block.norm_cross(x))) @ key.mT / (HIDDEN / 2) ** 0.5
    weights = scores.masked_fill(~visible[:, None, None], -torch.inf).softmax(-1).detach().requires_grad_()
    x = x + block.cross.out((weights @ value).transpose(1, 2).flatten(2))
    x = x + block.forward_layer(block.norm_forward(x))
    x = head.blocks[2](x, mask, pictures, seen, where, 1)
    logit = head.classify(head.norm(x[:, 0]))[:, 1].sum()
    (slope,) = torch.autograd.grad(logit, weights)
    expected = (weights * slope.clamp(min=0)).mean(1) * mask[..., None]
    found = attention_map(head, shared, text, picture, block=1)
    torch.testing.assert_close(
        found[:, [SUMMARY, *range(TOKENS, 1 + LENGTH)]], expected, rtol=1e-4, atol=1e-7
    )


def test_a_frozen_head_has_the_same_map_and_nothing_is_left_behind(head, shared):
    before = attention_map(head, shared, TEXT, PICTURE)
    head.requires_grad_(False)
    with torch.no_grad():
        torch.testing.assert_close(attention_map(head, shared, TEXT, PICTURE), before)
    assert not any(module._forward_pre_hooks for module in head.modules())
    assert all(parameter.grad is None for parameter in head.parameters())


def test_a_picture_without_a_visible_token_has_no_map(head, shared):
    shared.visible[1] = False
    cam = attention_map(head, shared, TEXT, PICTURE)
    assert (cam[PICTURE == 1] == 0).all() and torch.isfinite(cam).all()


@pytest.mark.parametrize("block", [2, -1, 3, -4])
def test_a_block_that_reads_with_the_summary_alone_is_refused(head, shared, block):
    with pytest.raises(ParamsError, match=f"(?s)no token of the text.*{block} of 3"):
        attention_map(head, shared, TEXT, PICTURE, block)


COLUMNS = [Column("vit", 4, True, 8), Column("esam", 4, False, 6)]
PAIRS = torch.tensor([0, 1, 2, 3]), torch.tensor([0, 1, 1, 2])


@pytest.fixture(scope="module")
def batch(tmp_path_factory) -> Batch:
    folder = tmp_path_factory.mktemp("stated")
    statements.build(folder, train=8, val=4, shards=1)
    return statements.batches(folder, 1, 4)[0]


def two_columns(tasks: Tasks, fusion: Fusion, columns: int = 2) -> FusionModel:
    torch.manual_seed(0)
    inputs = {column.name: column.name for column in COLUMNS[:columns]}
    sizes = Model(hidden=HIDDEN, heads=2, text_layers=1, head_layers=3)
    return build(Train(tasks, inputs, fusion, sizes), COLUMNS[:columns], len(WORDS), 4).eval()


@pytest.mark.parametrize("kind", [kind for kind in FUSIONS if kind != "none"])
def test_a_map_is_of_the_first_column_unless_fused_tokens_are_asked_for(batch, kind):
    model = two_columns(Tasks(itm=Itm()), Fusion(kind, alpha=0.5))
    other = replace(batch, features=batch.features | {"esam": batch.features["esam"].flip(0)})
    torch.testing.assert_close(gradcam(model, batch, *PAIRS), gradcam(model, other, *PAIRS), rtol=0, atol=0)
    fused, changed = (gradcam(model, seen, *PAIRS, fused=True) for seen in (batch, other))
    assert not torch.allclose(fused, changed, rtol=1e-3, atol=0)


@pytest.mark.parametrize(("fusion", "columns"), [(Fusion("none"), 2), (Fusion(alpha=0.0), 2), (Fusion(), 1)])
def test_where_nothing_is_fused_in_both_maps_are_what_the_model_attends_to(batch, fusion, columns):
    model = two_columns(Tasks(itm=Itm()), fusion, columns)
    shared = model.trunk(batch)
    for fused in (False, True):
        found = gradcam(model, batch, *PAIRS, fused=fused)
        assert torch.equal(found, attention_map(model.heads["itm"], shared, *PAIRS)) and found.any()


def test_a_run_that_matches_nothing_has_no_map(batch):
    with pytest.raises(ParamsError, match="(?s)matches nothing.*vqa"):
        gradcam(two_columns(Tasks(vqa=Vqa()), Fusion()), batch, *PAIRS)


@settings(deadline=None)
@given(st.integers(0, 999), st.integers(1, 12), st.integers(0, 12), st.booleans())
def test_patches_are_ascending_unique_and_never_cls(seed, cells, count, cls):
    """Also where fewer cells have a weight than are asked for, which makes torch.multinomial raise."""
    cam = drawn(3, cells + cls, seed=seed).clamp(min=0)
    cam[0] = 0
    found = patches(cam, count, torch.Generator().manual_seed(seed), cls)
    assert found.shape == (3, min(count, cells))
    assert ((found >= int(cls)) & (found < cells + cls)).all()
    assert (found.diff(dim=1) > 0).all()
    for row, chosen in zip(cam, found.tolist(), strict=True):
        weighed = set((row > 0).nonzero()[:, 0].tolist()) - ({0} if cls else set())
        assert set(chosen) <= weighed or weighed <= set(chosen)


def test_patches_follow_the_weights():
    cam = torch.tensor([[9.0, 1, 3, 0]]).expand(20_000, 4)
    first = patches(cam, 1, torch.Generator().manual_seed(0), cls=True)
    share = torch.bincount(first[:, 0], minlength=4) / len(cam)
    torch.testing.assert_close(share, torch.tensor([0, 0.25, 0.75, 0]), atol=0.015, rtol=0)
