"""Where itm's negatives come from beside the batch: changed texts, and pictures without what a text names."""

from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest
import statements
import synthetic
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from synthetic_tasks import mirrored, quadrant, tokens

from contract.errors import MismatchError, ParamsError, ShardError
from contract.record import Near, NegText, Record, Regions, TextNegatives
from training import fit
from training.batch import KINDS, Batch
from training.batching.lattice import touching
from training.config import Itm, Sources
from training.fusion import registry
from training.fusion.registry import Shape
from training.heads.itm import ItmHead, with_views
from training.heads.itm_pairs import ELSEWHERE, MASKED, PLAIN, SIDES, sample
from training.objectives.pairing import couples
from training.shards import open_shards
from training.stream import Stream
from training.trunk import masked_view
from training.trunk.picture import Column, PictureEncoder
from training.trunk.trunk import Shared

COLUMNS = [
    Column(name, synthetic.GRID, synthetic.CLS[name], synthetic.WIDTHS[name]) for name in synthetic.WIDTHS
]


def about_the_cell(number: int, record: Record) -> Record:
    """A statement that names the bright cell; a second region goes by that name, a third does not."""
    statements.stated(number, record)
    made = record.texts[-1]
    made.span_chars, made.span_tokens, made.span_regions = [(0, 4)], [(0, 1)], [[0]]
    (box,) = record.regions.box
    boxes = [box, synthetic_box(mirrored(synthetic.cell(number))), (0.0, 0.0, 1.0, 1.0)]
    record.regions = Regions(id=["a", "b", "c"], box=boxes, name=["cell", "cell", "wall"])
    return record


def synthetic_box(cell: int) -> tuple[float, float, float, float]:
    row, column = divmod(cell, synthetic.GRID)
    return (
        column / synthetic.GRID,
        row / synthetic.GRID,
        (column + 1) / synthetic.GRID,
        (row + 1) / synthetic.GRID,
    )


def swaps(record: Record) -> dict[str, TextNegatives]:
    """Two other quadrants instead of the true one, for two pictures of three."""
    number = int(record.id[1:])
    if number % 3 == 0:
        return {}
    words = [quadrant(mirrored(synthetic.cell(number))), "left right"]
    false = [
        NegText(text=said, tokens=tokens(said), kind=kind)
        for said, kind in zip(words, ("side", "object"), strict=True)
    ]
    return {f"{number}-where": TextNegatives(Near(), false)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("sources")
    synthetic.build(made, change=about_the_cell, false=swaps)
    return made


def batches(folder, count: int = 3, size: int = 12, task: str = "itm", **options) -> list[Batch]:
    shards = open_shards([str(folder / "data")], ["vit", "esam"])
    return list(islice(Stream(shards, [task], batch=size, **options), count))


@pytest.fixture(scope="module")
def batch(folder) -> Batch:
    """The first, with what its texts name."""
    return batches(folder, count=1, named=True, swaps=1)[0]


def test_changed_texts_are_texts_of_their_own_in_the_batch(folder):
    for batch in batches(folder, swaps=2):
        own = batch.rows["itm"]
        assert (batch.kind[own] == -1).all() and not torch.isin(batch.swapped[batch.swapped >= 0], own).any()
        for text in own.tolist():
            number = int(batch.keys[batch.text_picture[text]][1:])
            rows = batch.swapped[text][batch.swapped[text] >= 0]
            assert len(rows) == (0 if number % 3 == 0 else 2)
            assert (batch.text_picture[rows] == batch.text_picture[text]).all()
            assert {KINDS[kind] for kind in batch.kind[rows].tolist()} <= {"side", "object"}
            said = {tuple(batch.tokens[row][batch.token_mask[row]].tolist()) for row in rows.tolist()}
            record_words = quadrant(mirrored(synthetic.cell(number)))
            assert not len(rows) or tuple(tokens(record_words)) in said


def test_by_and_by_every_change_of_a_text_is_shown(folder):
    seen = {}
    for batch in batches(folder, count=20, size=8, swaps=1):
        for text in batch.rows["itm"].tolist():
            for row in batch.swapped[text][batch.swapped[text] >= 0].tolist():
                seen.setdefault(batch.text_id[text], set()).add(KINDS[batch.kind[row]])
    assert seen and all(kinds == {"side", "object"} for kinds in seen.values())


def test_a_text_that_is_shown_every_other_epoch_meets_all_that_is_false_too(tmp_path):
    """Of two texts a picture each epoch shows one: what goes by epochs would show it the same every time."""

    def with_two(number: int, record: Record) -> Record:
        statements.stated(number, record)
        record.texts.append(structs.replace(record.texts[-1], id=f"{number}-again"))
        return record

    def false(record: Record) -> dict[str, TextNegatives]:
        number = int(record.id[1:])
        changed = [NegText(said, tokens(said), "object") for said in ("left", "right")]
        near = Near(
            ["p0000"] * 2, ["a", "b"], [0.9, 0.8], ["top", "bottom"], [tokens("top"), tokens("bottom")]
        )
        return {f"{number}-{name}": TextNegatives(near, changed) for name in ("where", "again")}

    synthetic.build(tmp_path, train=8, change=with_two, false=false)
    seen: dict[tuple[str, str], list[int]] = {}
    options = {"texts_per_image": 1, "swaps": 1, "near_texts": 1}
    for batch in batches(tmp_path, count=4, size=8, **options):  # an epoch each
        for text in batch.rows["itm"].tolist():
            for name, rows in (("swapped", batch.swapped), ("near", batch.near_text)):
                seen.setdefault((batch.text_id[text], name), []).append(int(batch.tokens[rows[text, 0], 0]))
    assert len(seen) == 8 * 2 * 2
    for (_, name), words in seen.items():
        assert sorted(words) == sorted(tokens("left right" if name == "swapped" else "top bottom"))


def test_only_texts_of_a_task_that_asks_have_changed_ones(folder):
    (batch,) = batches(folder, count=1, task="itc", swaps=2)
    assert (batch.swapped == -1).all() and (batch.kind == -1).all()


def test_a_change_with_an_unknown_token_names_its_picture(tmp_path):
    false = {"1-where": TextNegatives(Near(), [NegText(text="?", tokens=[99], kind="side")])}
    synthetic.build(
        tmp_path,
        train=4,
        shards=1,
        change=about_the_cell,
        false=lambda record: false if record.id == "p0001" else {},
    )
    with pytest.raises(ShardError, match=r"toy-000\.tar: p0001\.neg\.json.*token that the tokenizer"):
        batches(tmp_path, swaps=1)


def test_a_wrong_text_is_a_change_of_the_text_itself_or_of_the_next_source(folder):
    for batch in batches(folder, swaps=2):
        pairs = sample(batch, None, Sources(random=0.001, swapped=1000))
        rows = batch.rows["itm"].tolist()
        side, text = pairs.side.tolist(), pairs.text.tolist()
        wrong = [row for row, where in zip(text, side, strict=True) if SIDES[where] == "wrong_text"]
        assert len(wrong) == len(rows) and side.count(1) == side.count(2)
        for true, false in zip(rows, wrong, strict=True):
            lacks = (batch.swapped[true] < 0).all()
            assert false in rows if lacks else false in batch.swapped[true].tolist()


def test_without_another_source_a_text_that_has_no_change_gives_no_pair_on_either_side(folder):
    for batch in batches(folder, swaps=2):
        pairs = sample(batch, None, Sources(random=0, swapped=1, masked=1), COLUMNS)
        has = int((batch.swapped[batch.rows["itm"]] >= 0).any(1).sum())
        assert torch.bincount(pairs.side, minlength=3).tolist()[1:] == [0, 0]  # nothing is named: no mask
        (named,) = batches(folder, count=1, swaps=2, named=True)
        found = torch.bincount(sample(named, None, Sources(random=0, swapped=1, masked=1), COLUMNS).side)
        assert found[1] == found[2] > 0 and has > 0


def test_what_a_text_names_is_told_with_all_of_the_same_name(folder):
    (batch,) = batches(folder, count=1, named=True)
    for text in batch.rows["itm"].tolist():
        boxes = batch.named[batch.named[:, 0] == text, 1]
        number = int(batch.keys[batch.text_picture[text]][1:])
        expected = torch.tensor(
            [synthetic_box(cell) for cell in (synthetic.cell(number), mirrored(synthetic.cell(number)))]
        )
        torch.testing.assert_close(batch.boxes[boxes], expected.float())


@given(st.lists(st.integers(0, 40), min_size=4, max_size=4), st.sampled_from([1, 3, 4]))
def test_a_box_touches_the_cells_that_it_shares_an_area_with(corners, grid):
    x0, x1, y0, y1 = [*sorted(corners[:2]), *sorted(corners[2:])]
    box = torch.tensor([[x0, y0, x1 + 1, y1 + 1]]) / 41
    found = touching(box, grid)[0]
    cells = [(column, row) for row in range(grid) for column in range(grid)]
    shared = [
        min(41 * (c + 1), grid * (x1 + 1)) > max(41 * c, grid * x0)
        and min(41 * (r + 1), grid * (y1 + 1)) > max(41 * r, grid * y0)
        for c, r in cells
    ]
    assert found.tolist() == shared


def test_a_view_hides_the_named_cells_on_every_column_and_leaves_the_rest_bit_for_bit(folder):
    (batch,) = batches(folder, count=1, named=True)
    text = batch.rows["itm"]
    picture, hidden = batch.text_picture[text], masked_view.of_named(batch, COLUMNS, text)
    view = masked_view.masked(batch, COLUMNS, picture, hidden)
    for column in COLUMNS:
        start = int(column.cls)
        for row, key in enumerate(view.keys):
            number = int(key[1:])
            gone = sorted({synthetic.cell(number), mirrored(synthetic.cell(number))})
            assert (~view.visible[column.name][row, start:]).nonzero()[:, 0].tolist() == gone
            assert view.hidden[column.name][row, start:].nonzero()[:, 0].tolist() == gone
        before, after = batch.tokens_of(column.name)[picture].float(), view.tokens_of(column.name)
        assert torch.equal(before[:, start:], after[:, start:])


def test_a_views_cls_is_the_mean_of_what_is_left(folder):
    (batch,) = batches(folder, count=1, named=True)
    text = batch.rows["itm"]
    picture, hidden = batch.text_picture[text], masked_view.of_named(batch, COLUMNS, text)
    view = masked_view.masked(batch, COLUMNS, picture, hidden)
    tokens, left = view.tokens_of("vit"), view.visible["vit"]
    for row in range(len(picture)):
        torch.testing.assert_close(tokens[row, 0], tokens[row, 1:][left[row, 1:]].mean(0))


def drawn_anew(batch: Batch, seed: int, masked: float, most: float) -> Batch:
    """Other boxes, and pictures of which a mask hides a share."""
    generator = torch.Generator().manual_seed(seed)
    corner, size = torch.rand(2, len(batch.boxes), 2, generator=generator)
    boxes = torch.cat([corner, (corner + most * size).clamp(max=1)], 1)
    beside = torch.rand(len(batch.keys), 1, generator=generator) < 0.5  # these have padding at their end
    padded = {name: beside & (torch.arange(seen.shape[1]) > 9) for name, seen in batch.visible.items()}
    masks = {name: torch.rand(of.shape, generator=generator) < masked for name, of in padded.items()}
    visible = {name: ~mask & ~padded[name] for name, mask in masks.items()}
    hidden = {name: mask & ~padded[name] for name, mask in masks.items()}
    return replace(batch, boxes=boxes, visible=visible, hidden=hidden)


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.6), st.floats(0.05, 1.0))
def test_texts_exchange_holes_that_hide_nothing_they_name_and_leave_some_of_each_column(
    batch, seed, masked, most
):
    changed = drawn_anew(batch, seed, masked, most)
    pairs = sample(changed, None, Sources(masked=1, random=0.001), COLUMNS)
    asked = pairs.view == MASKED
    text, other, picture = pairs.text[asked], pairs.other[asked], pairs.picture[asked]
    named, elsewhere = (masked_view.of_named(changed, COLUMNS, of) for of in (text, other))
    for column in COLUMNS:
        there, beside = named[column.name], elsewhere[column.name]
        seen = changed.visible[column.name][picture]
        on_picture = seen | changed.hidden[column.name][picture]
        assert not (there & beside).any() and not beside[:, : int(column.cls)].any()
        assert not ((there | beside) & ~on_picture).any()
        assert (seen & ~there & ~beside)[:, int(column.cls) :].any(1).all()
    assert hides(changed, picture, named).all() and hides(changed, picture, elsewhere).all()


def hides(batch: Batch, picture: torch.Tensor, holes: dict[str, torch.Tensor]) -> torch.Tensor:
    """[V] whether something is not seen that would be without these holes."""
    return torch.stack([(batch.visible[name][picture] & of).any(1) for name, of in holes.items()]).any(0)


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.6), st.floats(0.05, 1.0))
def test_holes_hang_on_no_mask(batch, seed, masked, most):
    """Else a mask would show through the holes of its own picture, and of no other."""
    rows = batch.rows["itm"]
    without, under = (
        masked_view.of_named(drawn_anew(batch, seed, share, most), COLUMNS, rows) for share in (0.0, masked)
    )
    assert all(torch.equal(without[name], under[name]) for name in without)


def test_holes_lie_on_the_picture(batch):
    nothing = {name: torch.zeros_like(seen) for name, seen in batch.visible.items()}
    beside = replace(batch, visible=nothing, hidden=nothing)
    holes = masked_view.of_named(beside, COLUMNS, batch.rows["itm"])
    assert not any(of.any() for of in holes.values())


@pytest.mark.parametrize("sources", [Sources(masked=1, random=1), Sources(masked=1, random=0, swapped=1)])
def test_a_picture_without_holes_is_wrong_only_for_texts_of_another(folder, sources):
    seen = 0
    for batch in batches(folder, 5, swaps=1, named=True):
        pairs = sample(batch, None, sources, COLUMNS)
        plain = (pairs.side == SIDES.index("wrong_picture")) & (pairs.view == PLAIN)
        seen += int(plain.sum())
        for text, picture in zip(pairs.text[plain].tolist(), pairs.picture[plain].tolist(), strict=True):
            assert batch.groups[picture] != batch.groups[batch.text_picture[text]]
    assert bool(seen) == bool(sources.random)


@pytest.mark.parametrize(
    "sources", [Sources(masked=1000, random=0.001), Sources(masked=1), Sources(random=0, swapped=1, masked=1)]
)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.3), st.floats(0.05, 1.0))
def test_the_same_holes_are_shown_in_true_pairs_as_in_false_ones(batch, sources, seed, masked, most):
    """So nothing about them, their place or their shape tells one from the other."""
    changed = drawn_anew(batch, seed, masked, most)
    pairs = sample(changed, None, sources, COLUMNS)
    shown = {}
    for number, side in enumerate(SIDES):
        rows = (pairs.side == number) & (pairs.view != PLAIN)
        texts = pairs.text if side == "wrong_picture" else pairs.other
        holes = masked_view.of_named(changed, COLUMNS, texts[rows])
        shown[side] = Counter(map(tuple, torch.cat(list(holes.values()), 1).int().tolist()))
    assert shown["own"] == shown["wrong_picture"] == shown["wrong_text"]
    assert (pairs.view == MASKED).any() == bool(shown["own"])


@given(st.integers(0, 2**32 - 1), st.integers(0, 9), st.floats(0, 1))
def test_couples_fit_both_ways_and_none_is_left_that_could_be_one(seed, rows, density):
    generator = torch.Generator().manual_seed(seed)
    fits = torch.rand(rows, rows, generator=generator) < density
    fits = fits & fits.T
    partner = couples(fits, generator).tolist()
    alone = [row for row, other in enumerate(partner) if other < 0]
    assert all(partner[other] == row and fits[row, other] for row, other in enumerate(partner) if other >= 0)
    assert not any(fits[row, other] for row in alone for other in alone if row != other)


def test_where_less_is_left_than_is_hidden_the_next_source_is_taken(folder):
    (batch,) = batches(folder, count=1, named=True)
    large = replace(batch, boxes=torch.tensor([[0.0, 0, 0.75, 1]]).expand_as(batch.boxes))
    pairs = sample(large, None, Sources(random=0.001, masked=1000), COLUMNS)
    assert (pairs.view == PLAIN).all() and (pairs.side == 1).sum() == len(batch.rows["itm"])


def test_where_all_would_be_hidden_or_nothing_the_next_source_is_taken(folder):
    (batch,) = batches(folder, count=1, named=True)
    whole = replace(batch, boxes=torch.tensor([[0.0, 0, 1, 1]]).expand_as(batch.boxes))
    nothing = replace(batch, named=batch.named[:0])
    for changed in (whole, nothing):
        pairs = sample(changed, None, Sources(random=0.001, masked=1000), COLUMNS)
        assert (pairs.view == PLAIN).all() and (pairs.side == 1).sum() == len(batch.rows["itm"])


def encoder(fill: str = "drop") -> PictureEncoder:
    torch.manual_seed(0)
    shape = Shape(hidden=16, heads=2, dropout=0.0, alpha=0.5, layers=1, separate=1, repeats=1)
    return PictureEncoder(COLUMNS, 16, registry.kind("gated"), shape, fill)


def shared(batch: Batch, look: PictureEncoder) -> Shared:
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(len(batch.tokens), 1 + batch.tokens.shape[1], 16, generator=generator)
    mask = torch.cat([torch.ones(len(text), 1, dtype=torch.bool), batch.token_mask], 1)
    return Shared(text, mask, *look(batch), batch.text_picture, look=look)


@pytest.mark.parametrize("fill", ["drop", "learned", "mean"])
def test_every_pair_looks_at_the_view_that_it_names(folder, fill):
    (batch,) = batches(folder, count=1, named=True)
    known = shared(batch, encoder(fill))
    pairs = sample(batch, None, Sources(masked=1), COLUMNS)
    seen, picture = with_views(known, batch, pairs)
    views, columns = pairs.view.tolist(), known.look.columns
    assert {MASKED, ELSEWHERE} <= set(views)
    for number, view in enumerate(views):
        own = pairs.picture[number][None]
        if view == PLAIN:
            assert picture[number] == own
            continue
        text = true_text(batch, own) if view == MASKED else pairs.other[number][None]
        hidden = masked_view.of_named(batch, columns, text)
        tokens, visible = known.look(masked_view.masked(batch, columns, own, hidden))
        place = picture[number]
        torch.testing.assert_close(seen.picture[place][seen.visible[place]], tokens[0][visible[0]])


def true_text(batch: Batch, picture: torch.Tensor) -> torch.Tensor:
    """The one text of a picture."""
    rows = batch.rows["itm"]
    (text,) = rows[batch.text_picture[rows] == picture]
    return text[None]


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_whether_a_pair_has_holes_says_nothing_of_its_label(folder, share):
    sources = Sources(masked=share, random=max(1 - share, 1e-9))
    all_pairs = [sample(batch, None, sources, COLUMNS) for batch in batches(folder, 5, named=True)]
    side, view = (torch.cat([getattr(pairs, name) for pairs in all_pairs]) for name in ("side", "view"))
    assert (view != PLAIN).float().mean().item() == pytest.approx(share, abs=0.15)
    for some in (view != PLAIN, view == PLAIN):
        own, wrong_picture, wrong_text = torch.bincount(side[some], minlength=3).tolist()
        assert own == wrong_picture == wrong_text
    assert torch.equal(view == MASKED, (view != PLAIN) & (side == SIDES.index("wrong_picture")))


def test_the_accuracy_is_told_by_what_was_changed(folder):
    (batch,) = batches(folder, count=1, swaps=1, named=True)
    torch.manual_seed(0)
    head = ItmHead(16, 2, 1, 0.0, Itm(sources=Sources(swapped=1, masked=1, random=0.1)))
    outcome = head(shared(batch, encoder()), batch)
    kinds = {name: count for name, (_, count) in outcome.measures.items() if name.startswith("swapped/")}
    assert set(kinds) == {"swapped/side", "swapped/object"} and outcome.measures["masked"][1] > 0
    assert sum(kinds.values()) <= outcome.measures["wrong_text"][1]
    outcome.loss.backward()
    assert torch.isfinite(outcome.loss)


@pytest.fixture
def world(tmp_path, monkeypatch):
    synthetic.build(tmp_path, change=about_the_cell, false=swaps)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_logs_each_kind_of_change_and_says_how_to_measure_what_a_mask_hides(world, capsys):
    sources = "tasks={itm: {swapped: 1, sources: {swapped: 1, masked: 1, random: 1}}}"
    fit.main(["--run", "runs/a", "--set", sources, "optim.epochs=1"])
    folder = world / "runs/a/plots/metrics/train/itm"
    assert (folder / "swapped/side.tsv").is_file() and (folder / "masked.tsv").is_file()
    assert "training.probe --masked" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("{sources: {swapped: 1, random: 0}}", "none of a wrong picture"),
        ("{sources: {masked: 1, random: 0}}", "none of a wrong text"),
        ("{sources: {mined: 1}}", r"(?s)needs mined pictures and texts in the batch.*itm\.mined: 1"),
        ("{sources: {swapped: 1}}", r"(?s)needs changed texts in the batch.*itm\.swapped: 1"),
        ("{swapped: 1}", r"(?s)never taken for wrong ones.*itm\.sources\.swapped: 1"),
    ],
)
def test_sources_that_cannot_give_a_pair_are_refused_before_the_run_is_made(world, setting, message):
    with pytest.raises(ParamsError, match=message):
        fit.main(["--run", "runs/a", "--set", f"tasks={{itm: {setting}}}"])
    assert not (world / "runs").exists()


def test_masks_that_look_for_things_are_refused_beside_masked_pictures(world):
    objects = ("tasks={itm: {sources: {masked: 1}}}", "masking={kind: object, ratio: 0.25}")
    with pytest.raises(ParamsError, match="together they tell which pair is false"):
        fit.main(["--run", "runs/a", "--set", *objects])
    assert not (world / "runs").exists()


def test_changed_texts_without_a_negatives_column_are_refused_before_the_run_is_made(world):
    (world / "negatives").rename(world / "elsewhere")
    with pytest.raises((ShardError, MismatchError), match="negatives"):
        fit.main(["--run", "runs/a", "--set", "tasks={itm: {swapped: 1, sources: {swapped: 1}}}"])
    assert not (world / "runs").exists()
