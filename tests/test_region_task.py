"""Region–phrase contrast: the published properties, what is no negative, and batches that teach nothing."""

import json
import math
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import synthetic
import synthetic_tasks
import torch
from msgspec import structs
from naive import naive_contrast, naive_mean, naive_row

from contract.errors import ParamsError
from contract.record import Near, NegText, Record, TextNegatives
from training import evaluate, fit
from training.batch import Batch
from training.batching.wording import word_ids
from training.config import Itm, Model, Optim, Region, Tasks, Train
from training.distributed import ALONE
from training.evaluation.metrics.matching import entity_object, summary
from training.heads.region import RegionHead, matching
from training.heads.region_contrasts import CONTRASTS
from training.heads.region_pairs import Pairs, asking, phrases, repeats
from training.objectives.losses import one_of
from training.objectives.region_bank import Links
from training.optimizing import step
from training.optimizing.checkpoint import Sums
from training.optimizing.step import StepContext
from training.optimizing.tally import tally
from training.run import build_model
from training.shards import open_shards
from training.starting.streams import needs
from training.stream import Stream
from training.trunk.picture import Column
from training.trunk.trunk import Shared

HIDDEN = 16
OPPOSITE = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
GRID = Column("vit", synthetic.GRID, cls=True, width=synthetic.WIDTHS["vit"])


@pytest.fixture(scope="module")
def batch(tmp_path_factory) -> Batch:
    """Eight pictures of two regions, with a phrase of three negatives about each."""
    folder = tmp_path_factory.mktemp("phrases")
    synthetic.build(folder, train=8, shards=1, change=synthetic_tasks.with_phrases)
    shards = open_shards([str(folder / "data")], ["vit"])
    return next(iter(Stream(shards, ["region"], batch=8, text_negatives=10)))


def shared(batch: Batch) -> Shared:
    """States as a trunk could give them."""
    generator = torch.Generator().manual_seed(0)
    pictures, texts = len(batch.keys), len(batch.tokens)
    text = torch.randn(texts, 1 + batch.tokens.shape[1], HIDDEN, generator=generator)
    picture = torch.randn(pictures, GRID.grid**2 + GRID.cls, HIDDEN, generator=generator)
    mask = torch.cat([torch.ones(texts, 1, dtype=torch.bool), batch.token_mask], 1)
    return Shared(text, mask, picture, batch.visible["vit"], batch.text_picture)


def head(**options) -> RegionHead:
    torch.manual_seed(0)
    return RegionHead(HIDDEN, GRID, Region(**options))


def pairs(boxes: int, linked: torch.Tensor | None = None, width: int = 4) -> Pairs:
    """As many phrases as boxes, all vectors equal."""
    same = torch.nn.functional.normalize(torch.ones(boxes, width), dim=1)
    linked = torch.eye(boxes, dtype=torch.bool) if linked is None else linked
    none = torch.zeros_like(linked)
    rows = torch.arange(boxes)
    links = Links(rows, rows, rows, rows)
    return Pairs(same, same, linked, none, ~none, torch.eye(boxes, dtype=torch.bool), rows, links, rows)


@pytest.mark.parametrize("boxes", [1, 2, 11])
def test_k_boxes_with_equal_embeddings_have_a_loss_of_ln_k(boxes):
    loss = CONTRASTS["infonce"](pairs(boxes), torch.tensor(14.3), 0.0)
    assert loss.item() == pytest.approx(math.log(boxes), abs=1e-5)


def test_ten_negatives_with_equal_embeddings_have_a_loss_of_ln_11():
    scores = torch.ones(3, 11)
    assert one_of(scores, scores.bool()).item() == pytest.approx(math.log(11))


@pytest.mark.parametrize("progress", [0.0, 0.5])
def test_the_loss_is_the_naive_loop_over_boxes_and_false_texts(batch, progress):
    model = head(coarse=0.1, coarse_end=0.3, fine=0.5).eval()
    torch.nn.init.constant_(model.fine.log, math.log(5.0))  # both scales start alike, and each is its own
    pairs, told = model.compared(shared(batch), batch)
    hard, real = told.cosine, told.real
    assert pairs.linked.sum() > len(pairs.linked) / 2 and real[:, 1:].any()
    cosine = pairs.phrase.double() @ pairs.box.double().T
    scores = model.coarse().item() * cosine
    coarse = naive_contrast(scores, pairs.linked, pairs.ignored)
    coarse += naive_contrast(scores.T, pairs.linked.T, pairs.ignored.T)
    fine = [
        naive_row(
            [model.fine().item() * x for x in row], [1.0, *[0.0] * (len(row) - 1)], [not t for t in there]
        )
        for row, there in zip(hard.double().tolist(), real.tolist(), strict=True)
        if there[0] and any(there[1:])
    ]
    wanted = (0.1 + 0.2 * progress) * coarse / 2 + 0.5 * naive_mean(fine)
    found = model(shared(batch), replace(batch, progress=progress)).loss.item()
    assert found == pytest.approx(wanted, rel=1e-5)


def test_a_head_whose_vectors_are_all_equal_has_these_losses(batch):
    model = head()
    with torch.no_grad():
        for layer in (model.box, model.phrase):
            layer.weight.zero_()
            layer.bias.fill_(1.0)
    boxes, usable = model._boxes(shared(batch), batch)
    named = phrases(batch)
    told = model._told(shared(batch), batch, named, boxes, usable)
    assert one_of(told.cosine, told.real).item() == pytest.approx(
        math.log(4)
    )  # each phrase has three negatives
    found = model._pairs(shared(batch), batch, named, boxes, usable)
    alone = replaced(found, ignored=torch.zeros_like(found.ignored))
    assert CONTRASTS["infonce"](alone, torch.tensor(1.0), 0.0).item() == pytest.approx(math.log(16), rel=1e-5)


def replaced(found: Pairs, **changes) -> Pairs:
    return Pairs(**{name: changes.get(name, getattr(found, name)) for name in Pairs.__struct_fields__})


def test_arcface_without_a_margin_is_the_plain_contrast():
    found = replaced(pairs(5), phrase=unit(5), box=unit(5, 1))
    plain, arc = (CONTRASTS[kind](found, torch.tensor(10.0), 0.0) for kind in ("infonce", "arcface"))
    torch.testing.assert_close(plain, arc, rtol=1e-4, atol=1e-4)
    assert CONTRASTS["arcface"](found, torch.tensor(10.0), 0.3) > plain


def test_arcface_is_the_naive_loop_and_leaves_out_what_has_no_partner():
    linked = torch.tensor([[1, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]]).bool()
    found = replaced(pairs(4, linked), phrase=unit(4), box=unit(4, 1))
    cosine = found.phrase.double() @ found.box.double().T
    wanted = [
        naive_contrast(with_margin(scores, links, 10.0, 0.5), links, torch.zeros_like(links))
        for scores, links in ((cosine, linked), (cosine.T, linked.T))
    ]
    assert CONTRASTS["arcface"](found, torch.tensor(10.0), 0.5).item() == pytest.approx(
        sum(wanted) / 2, rel=1e-4
    )


def with_margin(cosine: torch.Tensor, linked: torch.Tensor, scale: float, margin: float) -> torch.Tensor:
    """Scores with the margin at the first linked column of each row."""
    moved = cosine.clone()
    for row in linked.any(1).nonzero()[:, 0].tolist():
        column = linked[row].tolist().index(True)
        c = cosine[row, column].item()
        far = math.acos(c) >= math.pi - margin
        moved[row, column] = c - margin * math.sin(margin) if far else math.cos(math.acos(c) + margin)
    return scale * moved


def unit(rows: int, seed: int = 0) -> torch.Tensor:
    made = torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(made, dim=1)


def test_supcon_of_equal_vectors_is_ln_of_all_others():
    loss = CONTRASTS["supcon"](pairs(4), torch.tensor(1.0), 0.0)
    assert loss.item() == pytest.approx(math.log(2 * 4 - 1), rel=1e-5)


def worded() -> Pairs:
    """Five phrases and six boxes. Phrases 0 and 1 name box 0 in other words; 1 and 2 say the same, of boxes 0
    and 1; 3 names boxes 2 and 3; box 4 is what box 1 shows, and 4 names box 5, which shows what box 2 does.
    """
    linked, same = torch.zeros(5, 6, dtype=torch.bool), torch.eye(6, dtype=torch.bool)
    for phrase, box in ((0, 0), (1, 0), (2, 1), (3, 2), (3, 3), (4, 5)):
        linked[phrase, box] = True
    for one, other in ((1, 4), (2, 5)):
        same[one, other] = same[other, one] = True
    said = torch.tensor([0, 1, 1, 2, 3])
    ignored = ((said[:, None] == said).float() @ linked.float() @ same.float() > 0) & ~linked
    rows = torch.arange(5)
    links = Links(*linked.nonzero(as_tuple=True), rows, rows)
    return Pairs(unit(5), unit(6, 1), linked, ignored, ~ignored, same, said, links, torch.arange(6))


def test_supcon_is_the_naive_loop_over_phrases_and_boxes():
    found, scale = worded(), 5.0
    linked, same, said = found.linked.tolist(), found.same.tolist(), found.label.tolist()
    words = [{said[s] for s in range(5) if linked[s][r]} for r in range(6)]
    boxes = [{r for r in range(6) if linked[s][r]} for s in range(5)]
    things = [{t for r in boxes[s] for t in range(6) if same[r][t]} for s in range(5)]
    vectors = torch.cat([found.phrase, found.box]).double()
    rows = []
    for i in range(11):
        target, ignored = [], []
        for j in range(11):
            p, q = min(i, j), max(i, j)
            if q < 5:
                true, unjudged = said[p] == said[q] or boxes[p] & boxes[q], things[p] & boxes[q]
            elif p < 5:
                true, unjudged = said[p] in words[q - 5], bool(found.ignored[p, q - 5])
            else:
                true, unjudged = words[p - 5] & words[q - 5], same[p - 5][q - 5]
            target.append(float(i != j and bool(true)))
            ignored.append(i == j or bool(unjudged))
        share = [x / max(1, sum(target)) for x in target]
        rows.append(naive_row((scale * vectors @ vectors[i]).tolist(), share, ignored))
    assert sum(row is None for row in rows) == 1  # box 4, which nothing names
    loss = CONTRASTS["supcon"](found, torch.tensor(scale), 0.0)
    assert loss.item() == pytest.approx(naive_mean(rows), rel=1e-4)


def test_supcon_pulls_every_wording_to_its_box_and_to_the_others():
    """A box between two wordings that are still at right angles to it and to each other."""
    some = pairs(2, torch.tensor([[True, False], [True, False]]))
    phrase, box = torch.eye(4)[:2].requires_grad_(), torch.eye(4)[2:].requires_grad_()
    CONTRASTS["supcon"](replaced(some, phrase=phrase, box=box), torch.tensor(1.0), 0.0).backward()
    own, other = box.detach()
    for mine, theirs in ((0, 1), (1, 0)):
        assert phrase.grad[mine] @ own < 0 < phrase.grad[mine] @ other
        assert phrase.grad[mine] @ phrase[theirs].detach() < 0
    assert (box.grad[0] @ phrase.detach().T < 0).all()


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_every_contrast_learns_its_scale(contrast):
    found = replaced(pairs(4), phrase=unit(4), box=unit(4, 1))
    scale = torch.tensor(14.3, requires_grad=True)
    CONTRASTS[contrast](found, scale, 0.2).backward()
    assert scale.grad != 0


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_every_contrast_falls_when_phrases_meet_their_boxes(contrast):
    met = replaced(pairs(4), phrase=unit(4), box=unit(4))
    crossed = replaced(met, box=unit(4).roll(1, 0))
    loss = CONTRASTS[contrast]
    assert loss(met, torch.tensor(10.0), 0.2) < loss(crossed, torch.tensor(10.0), 0.2)


SECOND = {"rank": 0.3, "intra": 0.3, "false_phrases": True}  # what FG-CLIP 2 has besides


@pytest.mark.parametrize("options", [{}, SECOND])
def test_boxes_in_any_order_and_padding_give_the_same_loss(batch, options):
    plain = head(**options)(shared(batch), batch).loss
    order = torch.randperm(len(batch.boxes), generator=torch.Generator().manual_seed(1))
    place = order.argsort()
    turned = replace(
        batch,
        boxes=torch.cat([batch.boxes[order], torch.zeros(3, 4)]),
        box_picture=torch.cat([batch.box_picture[order], torch.tensor([0, 0, 3])]),
        crowd=torch.cat([batch.crowd[order], torch.zeros(3, dtype=torch.bool)]),
        about=torch.stack([batch.about[:, 0], place[batch.about[:, 1]]], 1),
    )
    torch.testing.assert_close(head(**options)(shared(batch), turned).loss, plain)


def test_phrases_of_the_same_words_are_no_negatives_of_each_other(batch):
    model, named = head(), phrases(batch)
    boxes, usable = model._boxes(shared(batch), batch)
    found = model._pairs(shared(batch), batch, named, boxes, usable)
    words = [tuple(batch.tokens[row].tolist()) for row in named.text.tolist()]
    linked = named.linked.tolist()
    for row, mine in enumerate(words):
        of_others = {
            box
            for other, theirs in enumerate(words)
            if theirs == mine
            for box in np.flatnonzero(linked[other])
        }
        own = set(np.flatnonzero(linked[row]))
        assert set(found.ignored[row].nonzero()[:, 0].tolist()) == of_others - own
    assert found.ignored.any()


def with_twins(batch: Batch) -> Batch:
    """Behind the boxes the same ones again, a little smaller, that no phrase names."""
    middle = (batch.boxes[:, :2] + batch.boxes[:, 2:]).repeat(1, 2) / 2
    return replace(
        batch,
        boxes=torch.cat([batch.boxes, middle + 0.8 * (batch.boxes - middle)]),
        box_picture=batch.box_picture.repeat(2),
        crowd=batch.crowd.repeat(2),
    )


def test_a_box_that_shows_the_same_thing_as_a_named_one_is_no_negative_of_its_phrases(batch):
    (plain, _), (found, _) = (head().compared(shared(batch), one) for one in (batch, with_twins(batch)))
    boxes = len(batch.boxes)
    assert torch.equal(found.ignored[:, :boxes], plain.ignored)
    assert torch.equal(found.ignored[:, boxes:], plain.ignored | plain.linked)
    assert not (found.own & found.ignored).all(1).any()  # the other box of the picture is still one


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_what_is_ignored_moves_nothing(contrast):
    """Of a named box, one of the same thing, and another."""
    linked, twin = torch.tensor([[True, False, False]]), torch.tensor([[False, True, False]])
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]]).bool()
    phrase, box = unit(1), unit(3, 1)
    some = pairs(3)
    found = replaced(
        some, phrase=phrase, box=box, linked=linked, ignored=twin, same=same, label=some.label[:1]
    )
    moved = replaced(found, box=torch.stack([box[0], -box[1], box[2]]))
    one, other = (CONTRASTS[contrast](part, torch.tensor(10.0), 0.2) for part in (found, moved))
    torch.testing.assert_close(one, other)


def test_boxes_of_the_same_thing_are_no_candidates_of_the_measure(batch):
    """Of two boxes and their twins the right one's is left out; that of the other is as wrong as it."""
    found, _ = head().compared(shared(batch), with_twins(batch))
    assert (found.own.sum(1) == 4).all() and (found.candidates.sum(1) == 3).all()
    chance, count = matching(found)["matching_chance"]
    assert float(chance) / count == pytest.approx(1 / 3)


def test_the_same_span_in_two_sentences_of_one_picture_is_told_apart_by_the_sentence():
    tokens = torch.tensor([[1, 2, 3], [1, 4, 5], [1, 2, 3]])
    one = batch_of_spans(tokens, text_picture=[0, 0, 0])
    assert repeats(one, phrases(one)).tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    apart = batch_of_spans(tokens, text_picture=[0, 1, 2])
    assert repeats(apart, phrases(apart)).all()


def batch_of_spans(tokens: torch.Tensor, text_picture: list[int]) -> Batch:
    """The first word of each text names the box of its number."""
    texts = len(tokens)
    rows = torch.arange(texts)
    parts = {
        "tokens": tokens,
        "token_mask": tokens > 0,
        "words": word_ids(tokens, tokens > 0),
        "text_picture": torch.tensor(text_picture),
        "boxes": torch.rand(texts, 4),
        "crowd": torch.zeros(texts, dtype=torch.bool),
        "spans": torch.tensor([[0, 1]] * texts),
        "span_text": rows,
        "span_words": tokens[:, 0],
        "span_box": torch.stack([rows, rows], 1),
        "about": torch.zeros(0, 2, dtype=torch.int64),
    }
    return Batch(**{name: parts.get(name) for name in Batch.__dataclass_fields__})


def test_a_crowd_takes_no_part(batch):
    crowd = batch.crowd.clone()
    crowd[0] = True
    found = head()
    boxes, usable = found._boxes(shared(batch), replace(batch, crowd=crowd))
    assert not usable[0] and (boxes[0] == 0).all() and usable[1:].all()


def test_matching_is_the_metric(batch):
    model, named = head(), phrases(batch)
    boxes, usable = model._boxes(shared(batch), batch)
    found = model._pairs(shared(batch), batch, named, boxes, usable)
    measured = matching(found)
    scores, linked = found.cosine.detach().numpy(), found.linked.numpy()
    wanted = summary([entity_object(scores, linked, found.candidates.numpy())])
    assert int(measured["matching"][0]) / measured["matching"][1] == wanted["accuracy"]
    assert float(measured["matching_chance"][0]) / measured["matching_chance"][1] == wanted["chance"]


@pytest.mark.parametrize("options", [*({"contrast": name} for name in CONTRASTS), SECOND])
@pytest.mark.parametrize("change", ["no usable box", "no box", "one box"])
def test_a_batch_with_little_to_learn_has_a_loss_and_gradients_that_are_numbers(batch, options, change):
    given = {
        "no usable box": {"boxes": torch.zeros_like(batch.boxes)},
        "no box": {
            "boxes": batch.boxes[:0],
            "box_picture": batch.box_picture[:0],
            "crowd": batch.crowd[:0],
            "about": batch.about[:0],
        },
        "one box": {"about": batch.about[:1]},
    }[change]
    model, states = head(**options), shared(batch)
    states.picture.requires_grad_()
    outcome = model(states, replace(batch, **given))
    outcome.loss.backward()
    assert torch.isfinite(outcome.loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    if change != "one box":
        assert outcome.loss == 0 and all(count == 0 for _, count in outcome.measures.values())


def test_the_weights_of_the_two_losses_change_on_the_way(batch):
    start, end = (replace(batch, progress=progress) for progress in (0.0, 1.0))
    scheduled = head(coarse=1.0, coarse_end=0.0, fine=0.0, fine_end=2.0)
    coarse, fine = head(fine=0.0), head(coarse=0.0, fine=2.0)
    states = shared(batch)
    torch.testing.assert_close(scheduled(states, start).loss, coarse(states, start).loss)
    torch.testing.assert_close(scheduled(states, end).loss, fine(states, end).loss)


def test_negatives_are_texts_of_their_own_in_the_batch(batch):
    for text in batch.rows["region"].tolist():
        rows = batch.neg_text[text]
        rows = rows[rows >= 0]
        assert len(rows) == 3
        assert (batch.text_picture[rows] == batch.text_picture[text]).all()
        assert not (batch.tokens[rows] == batch.tokens[text]).all(1).any()
    assert not torch.isin(batch.neg_text[batch.neg_text >= 0], batch.rows["region"]).any()


def changed(record: Record) -> dict[str, TextNegatives]:
    """The opposite quadrant for each phrase of a picture, as what its annotations make false."""
    swap = {text.id: " ".join(OPPOSITE[word] for word in text.text.split()) for text in record.texts}
    return {
        text: TextNegatives(Near(), [NegText(text=words, tokens=synthetic_tasks.tokens(words), kind="side")])
        for text, words in swap.items()
    }


def without_given(number: int, record: Record) -> Record:
    """As with_phrases, and the dataset itself gives no false text."""
    made = synthetic_tasks.with_phrases(number, record)
    return structs.replace(made, texts=[structs.replace(text, negatives=[]) for text in made.texts])


def test_changed_texts_are_what_the_fine_loss_asks_where_the_dataset_gives_none(tmp_path, monkeypatch):
    synthetic.build(tmp_path, train=8, shards=1, change=without_given, false=changed)
    shards = open_shards([str(tmp_path / "data")], ["vit"])
    for swapped in (0, 1):
        tasks = Tasks(region=Region(swapped=swapped), itm=Itm(swapped=1))
        batch = next(iter(Stream(shards, needs(tasks), batch=8, text_negatives=10, swaps=tasks.swapped)))
        _, told = head().compared(shared(batch), batch)
        assert told.real.sum(1).tolist() == [1 + swapped] * len(batch.rows["region"])


def test_a_run_learns_which_of_a_text_and_its_change_is_true_of_a_box(tmp_path, monkeypatch):
    synthetic.build(tmp_path, train=80, change=without_given, false=changed)
    monkeypatch.chdir(tmp_path)
    fit.main(["--run", "runs/a", "--set", "tasks={region: {coarse: 0, swapped: 1}}", "optim.epochs=10"])
    evaluate.main(["--run", "runs/a", "--out", "found.json"])
    found = json.loads((tmp_path / "found.json").read_text())["region"]
    assert found["changed"]["texts"] == 24 and found["changed"]["chance"] == {"accuracy": 0.5}
    assert found["changed"]["accuracy"] > 0.75 and "one_of_n" not in found


def test_the_fine_loss_counts_the_texts_whose_box_is_seen_and_that_have_something_false(batch):
    crowd, negatives, boxes = batch.crowd.clone(), batch.neg_text.clone(), batch.boxes.clone()
    crowd[0], boxes[5] = True, 2.0  # a box beyond the picture
    negatives[batch.about[3, 0]] = -1
    few = replace(batch, crowd=crowd, neg_text=negatives, boxes=boxes)
    for given, less in ((batch, 0), (few, 3)):
        asked = head()(shared(batch), given).measures["one_of_n"][1]
        assert asking(given) == asked == len(batch.about) - less


def first_half(number: int, record: Record) -> Record:
    """As with_phrases; only the pictures below 8 have anything false."""
    return (synthetic_tasks.with_phrases if number < 8 else without_given)(number, record)


def gradients(folder, accumulate: int) -> dict[str, torch.Tensor]:
    """Of a step over sixteen pictures in so many parts, by the fine loss alone."""
    shards = open_shards([str(folder / "data")], ["vit"])
    optim = Optim(batch=16, accumulate=accumulate, clip=1e9)
    small = Model(hidden=16, heads=2, text_layers=1, head_layers=1, dropout=0.0)
    tasks = Tasks(region=Region(coarse=0.0, fine=1.0))
    settings = Train(tasks=tasks, inputs={"grid": "vit"}, model=small, optim=optim, precision="float32")
    stream = Stream(shards, ["region"], batch=16 // accumulate, text_negatives=3, shuffle="none")
    parts = dict(enumerate(islice(stream, accumulate)))
    torch.manual_seed(0)
    model = build_model(settings, shards.features, shards.tokenizer, len(shards.answers))
    context = StepContext(0, 1, 0, False, tally(parts, settings, False, ALONE))
    assert step.backward(model, parts, settings, context, torch.device("cpu"), Sums()).whole > 0
    return {name: found.grad for name, found in model.named_parameters() if found.grad is not None}


def test_a_step_learns_the_same_from_false_texts_however_it_is_cut(tmp_path):
    """Half of the parts have none: their phrases take nothing from the mean over those that have."""
    synthetic.build(tmp_path, train=16, shards=1, change=first_half)
    whole, cut = gradients(tmp_path, 1), gradients(tmp_path, 2)
    assert whole["heads.region.box.weight"].any()
    for name, gradient in whole.items():
        torch.testing.assert_close(cut[name], gradient, rtol=1e-4, atol=1e-6)


@pytest.fixture
def world(tmp_path, monkeypatch):
    synthetic.build(tmp_path, train=80, change=synthetic_tasks.with_phrases)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_learns_which_box_a_phrase_names(world):
    fit.main(["--run", "runs/a", "--set", "tasks={region: {}}", "optim.epochs=10"])
    rows = (world / "runs/a/plots/metrics/development/region/matching.tsv").read_text().splitlines()
    assert float(rows[-1].split("\t")[-1]) > 0.75  # chance is 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["masking={ratio: 0.5, fill: drop}"], "asks for tokens by their place"),
        (["masking={ratio: 0.0, ratio_end: 0.5}"], "asks for tokens by their place"),
        (["augment={token_dropout: 0.5}"], r"(?s)drops nothing for region.*tasks\.region=null"),
        (["inputs={grid: vit, words: text}"], "no text may be fused"),
        (["inputs={}"], "looks at pictures, and this run has none"),
    ],
)
def test_settings_that_contradict_the_task_are_said_before_the_run_is_made(world, settings, message):
    with pytest.raises(ParamsError, match=message):
        fit.main(["--run", "runs/a", "--set", "tasks={region: {}}", *settings])
    assert not (world / "runs").exists()


def test_a_run_of_the_rank_loss_alone_has_learned_something(world):
    fit.main(["--run", "runs/a", "--set", "tasks={region: {coarse: 0, fine: 0, rank: 1}}", "optim.epochs=1"])
    loss = (world / "runs/a/plots/metrics/train/loss.tsv").read_text().splitlines()[1]
    assert float(loss.split("\t")[-1]) > 0
