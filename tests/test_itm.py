"""The task itm: pairs on both sides in equal counts, drawn where other samplers crash, and what is scored."""

from dataclasses import replace

import pytest
import statements
import synthetic
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from contract.errors import ShardError
from contract.record import Near, TextNegatives
from training.batch import Batch
from training.config import Itm, Sources
from training.heads.itm import ItmHead
from training.heads.itm_pairs import Pairs, sample
from training.objectives.contrast import Contrasted, Identity, Vectors, identify, unjudged
from training.objectives.pairing import any_of, draw, mined, negatives
from training.shards import open_shards
from training.stream import Stream
from training.trunk.trunk import Shared


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    statements.build(folder)
    return folder


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(0, 7))
def test_only_the_allowed_are_drawn_and_none_where_none_is(seed, rows, columns):
    scores = torch.randn(rows, columns, generator=generator(seed)) * 100
    allowed = torch.rand(rows, columns, generator=generator(seed + 1)) > 0.6
    for row, chosen in enumerate(draw(scores, allowed, generator(seed)).tolist()):
        assert allowed[row, chosen] if chosen >= 0 else not allowed[row].any()


@pytest.mark.parametrize("top", [1e2, 1e4, 3e38])
def test_a_peaked_softmax_does_not_crash(top):
    scores = torch.full((4, 4), -top).fill_diagonal_(top)  # what underflows to 0 beside the diagonal
    chosen = draw(scores, ~torch.eye(4, dtype=torch.bool), generator())
    assert (chosen >= 0).all() and (chosen != torch.arange(4)).all()


def test_draws_follow_the_softmax():
    scores = torch.tensor([0.0, 1.0, 2.0]).expand(20_000, 3)
    drawn = draw(scores, torch.ones(20_000, 3, dtype=torch.bool), generator())
    share = torch.bincount(drawn, minlength=3) / 20_000
    torch.testing.assert_close(share, scores[0].softmax(0), atol=0.015, rtol=0)


def test_sources_come_in_their_proportions_among_those_that_have_one():
    wrong = torch.ones(6_000, 4, dtype=torch.bool)
    near = torch.zeros_like(wrong)
    near[:3_000, 3] = True
    scores = torch.tensor([0.0, 200.0, 0.0, 0.0]).expand(6_000, 4)
    sources = {
        "similar": (1, lambda: draw(scores, wrong, generator())),
        "random": (0, no_one_asks),
        "mined": (2, lambda: draw(torch.zeros_like(scores), wrong & near, generator())),
    }
    found, source = negatives(sources, generator())
    assert set(zip(found.tolist(), source.tolist(), strict=True)) == {(1, 0), (3, 2)}
    assert (found[:3_000] == 3).float().mean().item() == pytest.approx(2 / 3, abs=0.03)
    assert (found[3_000:] == 1).all()


def no_one_asks() -> torch.Tensor:
    raise AssertionError("a source without a share was asked")


def test_a_row_without_a_candidate_in_any_source_has_none():
    nobody = torch.full((3,), -1)
    found, source = negatives({"mined": (1, lambda: nobody), "random": (1, lambda: nobody)}, generator())
    assert found.tolist() == source.tolist() == [-1, -1, -1]


def test_any_of_the_numbers_of_a_row_is_drawn():
    rows = torch.tensor([[3, 5, -1], [-1, -1, -1], [-1, -1, 7]]).repeat(600, 1)
    found = any_of(rows, generator()).view(-1, 3)
    assert set(found[:, 0].tolist()) == {3, 5} and (found[:, 1] == -1).all() and (found[:, 2] == 7).all()
    assert any_of(rows[:, :0], generator()).tolist() == [-1] * len(rows)


def test_mined_pictures_of_a_text_and_nothing_else():
    table = mined(torch.tensor([[2, -1], [-1, -1], [0, 2]]), 3)
    assert table.nonzero().tolist() == [[0, 2], [2, 0], [2, 2]]


def vectors(of: Identity, scale: float) -> Contrasted:
    width = max(len(of.text_picture), len(of.group))
    made = Vectors(torch.eye(width)[: len(of.text_picture)], torch.eye(width)[: len(of.group)], of)
    return Contrasted(made, made, torch.tensor(scale))


@pytest.mark.parametrize("sources", [Sources(), Sources(random=0, mined=1), Sources(similar=1, mined=1)])
def test_both_sides_in_equal_counts_and_none_that_may_be_true(shards, sources):
    for batch in statements.batches(shards, 3, 16, negatives=2, near_texts=2):
        of = identify(batch, batch.rows["itm"])
        pairs = sample(batch, vectors(of, 1e5), sources)
        counts = torch.bincount(pairs.side, minlength=3).tolist()
        assert counts[0] == len(batch.rows["itm"]) and counts[1] == counts[2] > 0
        true = unjudged(of)
        row_of = {text: row for row, text in enumerate(batch.rows["itm"].tolist())}
        for text, picture, side in zip(
            *(part.tolist() for part in (pairs.text, pairs.picture, pairs.side)), strict=True
        ):
            if text in batch.near_text:
                assert side == 2 and batch.text_picture[text] == picture  # as what is false of that picture
            else:
                assert true[row_of[text], picture] == (side == 0)
                assert (batch.text_picture[text] == picture) == (side == 0)


def test_similar_is_what_the_text_scores_best_and_what_its_picture_does(shards):
    """Of scores that know a direction: a text's best picture, and the best text of its own picture."""
    (batch,) = statements.batches(shards, 1, 16)
    rows, own = batch.rows["itm"], batch.text_picture[batch.rows["itm"]].tolist()
    of = identify(statements.unlike(batch), rows)
    text = torch.randn(len(rows), 9, generator=generator(1))
    made = Vectors(text, torch.randn(len(of.group), 9, generator=generator(2)), of)
    scores = 1e4 * made.text @ made.picture.T
    pairs = sample(batch, Contrasted(made, made, torch.tensor(1e4)), Sources(similar=1, random=0))
    judged = scores.masked_fill(unjudged(of), -torch.inf)
    assert pairs.picture[pairs.side == 1].tolist() == judged.argmax(1).tolist()
    assert pairs.text[pairs.side == 2].tolist() == rows[judged.argmax(0)[own]].tolist()


def words_of(key: str) -> list[int]:
    """The tokens of a picture's statement."""
    return [synthetic.WORDS.index(word) for word in statements.said(synthetic.picture(int(key[1:])))]


def near_words(batch: Batch, text: int) -> list[list[int]]:
    """The tokens of what was mined for a text."""
    rows = batch.near_text[text][batch.near_text[text] >= 0].tolist()
    return [batch.tokens[row][batch.token_mask[row]].tolist() for row in rows]


def test_mined_texts_are_those_of_the_column_and_by_and_by_all_of_them(shards):
    shown: dict[str, list[list[int]]] = {}
    for batch in statements.batches(shards, 8, 15, near_texts=1):  # three epochs of forty pictures
        for text in batch.rows["itm"].tolist():
            shown.setdefault(batch.keys[batch.text_picture[text]], []).extend(near_words(batch, text))
    for key, found in shown.items():
        near = statements.mined(int(key[1:]), train=40)[f"{int(key[1:])}-where"].near.key
        assert sorted(found) == sorted(map(words_of, near)) or len(near) < 3


def test_a_wrong_text_is_one_that_was_mined_for_the_text(shards):
    for batch in statements.batches(shards, 3, 16, near_texts=2):
        pairs = sample(batch, None, Sources(mined=1000, random=0.001))
        true, wrong = pairs.text[pairs.side == 1], pairs.text[pairs.side == 2]
        found = (batch.near_text[true] == wrong[:, None]).any(1)
        assert torch.equal(found, (batch.near_text[true] >= 0).any(1)) and found.sum() > len(found) / 2


def test_a_mined_text_that_its_picture_does_not_have_is_an_error_with_its_fix(tmp_path):
    near = TextNegatives(Near(key=["p0001"], text=["nowhere"], score=[1.0]))
    said = {"0-where": near}
    synthetic.build(
        tmp_path,
        train=8,
        change=statements.stated,
        false=lambda record: said if record.id == "p0000" else {},
    )
    with pytest.raises(ShardError, match=r"(?s)p0001\.json: has no text nowhere.*mine again"):
        statements.batches(tmp_path, 1, 8, near_texts=1)


def test_a_damaged_record_gives_no_mined_text_and_the_others_do(tmp_path):
    statements.build(tmp_path, train=8, shards=8)
    opened = open_shards([str(tmp_path / "data")], ["vit", "esam"])
    first, *others = statements.mined(0, train=8)["0-where"].near.key
    tar = tmp_path / "data" / f"toy-{int(first[1:]):03d}.tar"
    tar.write_bytes(tar.read_bytes().replace(b'"id":"p0001"', b'"id":"p000X"'))
    stream = Stream(opened, ["itm"], batch=1, shuffle="none", near_texts=3, on_error="skip")
    batch = next(iter(stream))
    assert sorted(near_words(batch, batch.text_id.index("0-where"))) == sorted(map(words_of, others))
    assert first == "p0001" and len(stream.left_out()) == 1


def test_a_mined_text_does_not_hang_on_what_was_found_damaged_before(tmp_path):
    """Of a picture whose features cannot be read the words still can: else it mattered who had read what."""
    statements.build(tmp_path, train=8, shards=8)
    opened = open_shards([str(tmp_path / "data")], ["vit", "esam"])
    options = {"batch": 1, "shuffle": "none", "near_texts": 3, "on_error": "skip"}
    fresh, knowing = (
        next(iter(Stream(opened, ["itm"], **options, skipped=skipped))) for skipped in ([], ["1:0"])
    )
    assert "p0001" in statements.mined(0, train=8)["0-where"].near.key
    assert torch.equal(fresh.tokens, knowing.tokens) and torch.equal(fresh.near_text, knowing.near_text)


def test_a_mined_text_has_the_role_of_the_text_that_it_is_mined_for(tmp_path):
    near = Near(key=["p0001", "p0002"], text=["1-0", "2-where"], score=[0.9, 0.8])
    synthetic.build(
        tmp_path,
        train=8,
        change=statements.stated,
        false=lambda record: {"0-where": TextNegatives(near)} if record.id == "p0000" else {},
    )
    batch = statements.batches(tmp_path, 1, 8, near_texts=1)[0]
    row = batch.near_text[batch.text_id.index("0-where"), 0]
    words = statements.said(synthetic.picture(2))
    assert batch.tokens[row][batch.token_mask[row]].tolist() == [
        synthetic.WORDS.index(word) for word in words
    ]


def test_mined_pictures_and_texts_of_unequal_number_are_a_damaged_column(tmp_path):
    near = Near(key=["p0001", "p0002"], text=["1-where"], score=[0.9, 0.8])
    synthetic.build(
        tmp_path,
        train=8,
        change=statements.stated,
        false=lambda record: {"0-where": TextNegatives(near)} if record.id == "p0000" else {},
    )
    with pytest.raises(ShardError, match=r"(?s)p0000\.neg\.json: names 2 pictures and 1 texts.*mine again"):
        statements.batches(tmp_path, 1, 8, near_texts=1)


def test_only_a_task_that_draws_them_has_mined_texts(shards):
    opened = open_shards([str(shards / "data")], ["vit", "esam"])
    batch = next(iter(Stream(opened, ["itc"], batch=16, near_texts=2)))
    assert (batch.near_text == -1).all() and len(batch.near_text) == len(batch.rows["itc"])


def test_a_batch_draws_the_same_pairs_again(shards):
    first, second = (sample(statements.batches(shards, 1, 16)[0], None, Sources()) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in ((first.text, second.text), (first.picture, second.picture)))


@pytest.mark.parametrize("size", [1, 8])
def test_an_all_same_id_batch_has_only_its_own_pairs(shards, size):
    (batch,) = statements.batches(shards, 1, size)
    pairs = sample(replace(batch, groups=["same"] * size), None, Sources())
    assert pairs.side.tolist() == [0] * len(batch.rows["itm"])


def shared(batch, hidden: int = 8) -> Shared:
    texts, pictures = len(batch.tokens), len(batch.keys)
    made = [torch.randn(n, 5, hidden, generator=generator(n)) for n in (texts, pictures)]
    masks = [torch.ones(n, 5, dtype=torch.bool) for n in (texts, pictures)]
    return Shared(made[0], masks[0], made[1], masks[1], batch.text_picture)


def head(**options) -> ItmHead:
    torch.manual_seed(0)
    return ItmHead(8, 2, 2, 0.0, Itm(**options))


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_true_and_false_pairs_have_the_same_part_in_the_loss(shards, gamma):
    (batch,) = statements.batches(shards, 1, 16)
    made = head(gamma=gamma)
    with torch.no_grad():
        made.classify.weight.zero_()
        made.classify.bias.copy_(torch.tensor([0.0, 1.0]))
    yes, no = torch.tensor([0.0, 1.0]).softmax(0).flip(0)
    expected = -0.5 * ((1 - yes) ** gamma * yes.log() + (1 - no) ** gamma * no.log())
    found = made(shared(batch), batch)
    assert found.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    told = {name: float(total) / count for name, (total, count) in found.measures.items()}
    halves = {"balanced": 0.5, "balanced_chance": 0.5}
    assert told == halves | {"own": 1, "wrong_picture": 0, "wrong_text": 0, "paired": 1}


def test_how_many_texts_have_wrong_partners_is_told(shards):
    (batch,) = statements.batches(shards, 1, 8)
    one = replace(batch, groups=["same"] * len(batch.groups))
    for some, share in ((batch, 1), (one, 0)):
        total, count = head()(shared(some), some).measures["paired"]
        assert (total / count, count) == (share, len(batch.rows["itm"]))


@pytest.mark.parametrize(("sides", "wrong"), [("both", {1, 2}), ("picture", {1}), ("text", {2})])
def test_the_loss_is_over_the_sides_that_are_chosen_and_all_are_measured(shards, sides, wrong):
    (batch,) = statements.batches(shards, 1, 8)
    made, known = head(sides=sides, balance=False).eval(), shared(batch)
    pairs, found = sample(batch, None, Sources()), made(known, batch)
    kept = torch.tensor([side in {0, *wrong} for side in pairs.side.tolist()])
    logits, label = made.logits(known, pairs.text, pairs.picture)[kept], (pairs.side == 0)[kept].long()
    torch.testing.assert_close(found.loss, cross_entropy(logits, label), rtol=1e-5, atol=1e-6)
    assert all(count for _, count in found.measures.values())


@pytest.mark.parametrize("two_way", [False, True])
def test_a_pair_does_not_depend_on_the_others(shards, two_way):
    (batch,) = statements.batches(shards, 1, 8)
    made, known = head(two_way=two_way).eval(), shared(batch)
    pairs: Pairs = sample(batch, None, Sources())
    together = made.logits(known, pairs.text, pairs.picture)
    alone = [
        made.logits(known, text[None], picture[None])
        for text, picture in zip(pairs.text, pairs.picture, strict=True)
    ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("two_way", [False, True])
def test_the_answer_hangs_on_single_tokens_and_not_on_two_summaries(shards, two_way):
    (batch,) = statements.batches(shards, 1, 4)
    made, known = head(two_way=two_way).eval(), shared(batch)
    one = torch.tensor([0])
    before = made.logits(known, one, one)
    for states in (known.text, known.picture):
        kept = states[0, 3].clone()
        states[0, 3] *= -1
        assert not torch.allclose(made.logits(known, one, one), before, atol=1e-4)
        states[0, 3] = kept
    torch.testing.assert_close(made.logits(known, one, one), before)


def test_both_ways_the_picture_reads_the_text_of_its_own_pair(shards):
    (batch,) = statements.batches(shards, 1, 4)
    made, known = head(two_way=True).eval(), shared(batch)
    text, picture = torch.tensor([0, 1]), torch.tensor([2, 2])
    tokens, visible, rows = made.read(known, text, picture)
    assert tokens.shape == (2, *known.picture.shape[1:]) and rows.tolist() == [0, 1]
    assert torch.equal(visible, known.visible[picture])
    known.text[0] *= -1
    after, _, _ = made.read(known, text, picture)
    assert not torch.allclose(after[0], tokens[0]) and torch.equal(after[1], tokens[1])


@pytest.mark.parametrize("two_way", [False, True])
def test_no_text_at_all_gives_zero_and_no_nan(shards, two_way):
    (batch,) = statements.batches(shards, 1, 4)
    batch.rows["itm"] = batch.rows["itm"][:0]
    made = head(two_way=two_way)
    found = made(shared(batch), batch)
    found.loss.backward()
    assert found.loss == 0 and all(p.grad is None or p.grad.isfinite().all() for p in made.parameters())
