"""The task itm: pairs on both sides in equal counts, drawn where other samplers crash, and what is scored."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import statements
import synthetic
import synthetic_tasks
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch.nn.functional import cross_entropy, normalize

from contract.errors import MismatchError, ShardError
from contract.record import Near, Record, Text, TextNegatives
from contract.seeds import uniforms
from training.batch import Batch
from training.config import Itm, Sources
from training.heads.itm import ItmHead
from training.heads.itm_pairs import Pairs, sample
from training.objectives.contrast import Contrasted, Identity, Vectors, identify, unjudged
from training.objectives.pairing import any_of, draw, mined, negatives
from training.shards import ShardSet, open_shards
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
    return synthetic_tasks.tokens(statements.said(synthetic.picture(int(key[1:]))))


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


def near_the_first(folder, near: Near) -> None:
    """Shards in which that is near the statement of the first picture."""
    synthetic.build(
        folder,
        train=8,
        change=statements.stated,
        false=lambda record: {"0-where": TextNegatives(near)} if record.id == "p0000" else {},
    )


def test_a_mined_text_needs_neither_its_shard_nor_a_feature_of_its_picture(tmp_path):
    statements.build(tmp_path, train=8, shards=8)
    (first,) = open_shards([str(tmp_path / "data" / "toy-000.tar")], ["vit", "esam"]).shards
    assert first.index.keys() == ["p0000"]
    opened = open_shards([str(first.path)], ["vit", "esam"])
    stream = Stream(opened, ["itm"], batch=1, near_texts=3)
    batch = next(iter(stream))
    near = statements.mined(0, train=8)["0-where"].near
    assert sorted(near_words(batch, batch.text_id.index("0-where"))) == sorted(near.tokens)
    assert len(near.key) == 3 and stream.planner.unresolved == 0


def test_mined_texts_without_their_words_are_of_an_earlier_version_where_they_are_asked_for(tmp_path):
    near_the_first(tmp_path, Near(key=["p0001"], text=["1-where"], score=[0.9]))
    statements.batches(tmp_path, 1, 8, negatives=1)
    with pytest.raises(MismatchError, match=r"(?s)p0000\.neg\.json: names texts without their.*mine again"):
        statements.batches(tmp_path, 1, 8, near_texts=1)


@pytest.mark.parametrize("lists", [{"text": ["1-where"]}, {"content": ["left"]}, {"tokens": [[2]]}])
def test_lists_of_unequal_length_of_what_is_near_are_a_damaged_column(tmp_path, lists):
    near_the_first(tmp_path, structs.replace(statements.near([1, 2]), **lists))
    with pytest.raises(ShardError, match=r"(?s)p0000\.neg\.json: names 2 pictures and .*mine again"):
        statements.batches(tmp_path, 1, 8, near_texts=1)


@pytest.mark.parametrize("token", [-1, len(synthetic.WORDS)])
def test_a_mined_text_with_an_unknown_token_names_its_picture(tmp_path, token):
    near_the_first(tmp_path, structs.replace(statements.near([1]), tokens=[[2, token]]))
    with pytest.raises(ShardError, match=r"p0000\.neg\.json: holds a token that the tokenizer does not"):
        statements.batches(tmp_path, 1, 8, near_texts=1)


def test_a_tokenizer_of_the_run_makes_the_tokens_of_mined_texts_too(shards):
    """From their words: those of the column are of another tokenizer."""
    opened = open_shards([str(shards / "data")], ["vit", "esam"])
    backwards = {word: number for number, word in enumerate(reversed(synthetic.WORDS))}
    words = Tokenizer(WordLevel(backwards, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    given, own = (
        next(iter(Stream(opened, ["itm"], batch=16, near_texts=1, tokenizer=tokenizer)))
        for tokenizer in (None, words)
    )
    rows = given.near_text[given.near_text >= 0]
    assert len(rows) and torch.equal(given.near_text, own.near_text)
    assert torch.equal(own.tokens[rows], len(synthetic.WORDS) - 1 - given.tokens[rows])


DEVELOPMENT = 0.4


def held_out(key: str) -> bool:
    """Whether the picture is one of the development part."""
    return bool(uniforms(np.array([key.encode()]), "development")[0] < DEVELOPMENT)


def numbered(number: int) -> list[int]:
    """Words that only that picture's statement has: its number with four digits."""
    return [2 + number // 4**place % 4 for place in range(4)]


@pytest.fixture(scope="module")
def apart(tmp_path_factory) -> ShardSet:
    """Shards whose every statement, and what is near it, tells of which picture it is."""
    folder = tmp_path_factory.mktemp("apart")

    def stated(number: int, record: Record) -> Record:
        record.texts.append(Text(f"{number}-where", "statement", "", numbered(number)))
        return record

    def false(record: Record) -> dict[str, TextNegatives]:
        number = int(record.id[1:])
        near = statements.near([(number + step) % 40 for step in (1, 2, 3, 4)])
        near.tokens = [numbered(int(key[1:])) for key in near.key]
        return {f"{number}-where": TextNegatives(near)}

    synthetic.build(folder, change=stated, false=false)
    return open_shards([str(folder / "data")], ["vit", "esam"])


def mined_of(shards: ShardSet, part: str) -> tuple[Stream, set[str], set[str]]:
    """A stream of that part, and the pictures whose texts, and which themselves, were mined for it."""
    options = {"negatives": 2, "near_texts": 2, "development": DEVELOPMENT, "part": part}
    stream = Stream(shards, ["itm"], batch=8, **options)
    texts, pictures = set(), set()
    of_words = {tuple(numbered(number)): synthetic.key(number) for number in range(40)}
    for batch in islice(stream, 12):
        assert all(held_out(batch.keys[row]) == (part == "development") for row in batch.text_picture)
        pictures |= {batch.keys[row] for row in batch.neg_picture[batch.neg_picture >= 0].tolist()}
        texts |= {of_words[tuple(words)] for text in batch.rows["itm"] for words in near_words(batch, text)}
    return stream, texts, pictures


def test_no_development_picture_is_a_mined_negative_of_the_training_part_and_no_text_of_one(apart):
    stream, texts, pictures = mined_of(apart, "train")
    train = {synthetic.key(number) for number in range(40) if not held_out(synthetic.key(number))}
    assert len(train) < 40 and texts == train and pictures == train
    assert stream.planner.unresolved == 0 < stream.planner.wanted


def test_the_development_part_is_asked_with_what_was_mined_from_either(apart):
    _, texts, pictures = mined_of(apart, "development")
    assert {held_out(key) for key in texts} == {held_out(key) for key in pictures} == {True, False}


def test_a_text_beside_mined_ones_keeps_its_words_and_another_is_changed(shards):
    """Else the change would tell the true text from the wrong ones."""
    opened = open_shards([str(shards / "data")], ["vit", "esam"])
    unknown = synthetic.WORDS.index("[UNK]")
    stream = Stream(
        opened,
        ["itm"],
        batch=40,
        near_texts=1,
        stop=40,
        change=statements.Always(Text("", "statement", "", [unknown])),
    )
    (batch,) = stream
    own = batch.rows["itm"]
    kept, mined = batch.tokens[own, 0] != unknown, batch.near_text[own, 0] >= 0
    assert torch.equal(kept, mined) and 0 < stream.planner.reworded == int((~mined).sum()) < len(own)


def test_only_a_task_that_draws_them_has_mined_texts(shards):
    opened = open_shards([str(shards / "data")], ["vit", "esam"])
    batch = next(iter(Stream(opened, ["itc"], batch=16, near_texts=2)))
    assert (batch.near_text == -1).all() and len(batch.near_text) == len(batch.rows["itc"])


def test_a_batch_draws_the_same_pairs_again(shards):
    first, second = (sample(statements.batches(shards, 1, 16)[0], None, Sources()) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in ((first.text, second.text), (first.picture, second.picture)))


def test_autocast_changes_no_draw(shards):
    """Cosines that bf16 does not tell apart are a choice all the same at a scale of 100."""
    (batch,) = statements.batches(shards, 1, 32)
    of = identify(batch, batch.rows["itm"])
    text, picture = (
        normalize(1 + 0.2 * torch.randn(len(rows), 16, generator=generator(seed)), dim=1)
        for seed, rows in enumerate((of.text_picture, of.group))
    )
    close = Vectors(text, picture, of)
    found, sources = Contrasted(close, close, torch.tensor(100.0)), Sources(similar=1, random=0)
    plain = sample(batch, found, sources)
    with torch.autocast("cpu", torch.bfloat16):
        cast = sample(batch, found, sources)
    assert torch.equal(cast.picture, plain.picture) and torch.equal(cast.text, plain.text)


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
