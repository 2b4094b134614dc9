"""Composed retrieval: what a query may find, the parts of SPRC's loss, and batches with nothing to learn."""

from dataclasses import replace

import pytest
import synthetic
import synthetic_tasks
import torch
from msgspec import structs
from naive import naive_contrast

from contract.errors import ParamsError, ShardError
from training import fit, run
from training.batch import Batch
from training.config import Cir
from training.evaluation import cir_scores
from training.evaluation.held_out import HeldOut
from training.evaluation.metrics import cirr
from training.heads.cir import CirHead, alignment, gallery, recalls
from training.objectives.static_bank import Gallery
from training.shards import open_shards
from training.stream import Stream
from training.trunk.trunk import Shared

HIDDEN, SET = 16, synthetic_tasks.SET


def with_soft_targets(number, record):
    """Every edit with the picture after its set as a soft target."""
    record = synthetic_tasks.with_edits(number, record)
    (edit,) = record.texts
    soft = synthetic.key((number - number % SET + SET) % 8)
    return structs.replace(record, texts=[structs.replace(edit, target=[*edit.target, soft])])


@pytest.fixture(scope="module")
def batch(tmp_path_factory) -> Batch:
    """Eight pictures, two image sets of four, an edit on each."""
    folder = tmp_path_factory.mktemp("edits")
    synthetic.build(folder, train=8, val=4, shards=1, change=with_soft_targets)
    shards = open_shards([str(folder / "data")], ["vit"])
    return next(iter(Stream(shards, ["cir"], batch=8)))


def shared(batch: Batch) -> Shared:
    """States as a trunk could give them."""
    generator = torch.Generator().manual_seed(0)
    pictures, texts = len(batch.keys), len(batch.tokens)
    text = torch.randn(texts, 1 + batch.tokens.shape[1], HIDDEN, generator=generator)
    picture = torch.randn(pictures, 17, HIDDEN, generator=generator)
    mask = torch.cat([torch.ones(texts, 1, dtype=torch.bool), batch.token_mask], 1)
    return Shared(text, mask, picture, batch.visible["vit"], batch.text_picture)


def head(**options) -> CirHead:
    torch.manual_seed(0)
    return CirHead(HIDDEN, 2, 1, 0.0, Cir(queries=3, width=8, **options)).eval()


def numbers(batch: Batch, flags: torch.Tensor) -> set[int]:
    return {int(batch.keys[row][1:]) for row in flags.nonzero()[:, 0].tolist()}


def test_a_query_competes_with_all_but_its_reference_and_soft_targets(batch):
    found = gallery(batch)
    for row, text in enumerate(batch.rows["cir"].tolist()):
        reference = int(batch.keys[batch.text_picture[text]][1:])
        members = set(range(reference - reference % SET, reference - reference % SET + SET)) - {reference}
        soft = (reference - reference % SET + SET) % 8
        assert numbers(batch, found.target[row]) == {min(members)}
        assert numbers(batch, found.members[row]) == members
        assert numbers(batch, found.ignored[row]) == {reference, soft} - {min(members)}


def test_a_row_that_shows_the_target_again_is_no_negative(batch):
    """As where a batch straddles two epochs, or two datasets hold one picture."""
    twice = replace(batch, groups=[*batch.groups[:-1], batch.groups[int(batch.target[0])]])
    last = len(batch.groups) - 1
    if int(batch.target[0]) != last:
        assert gallery(twice).ignored[0, last]


def test_the_members_are_hard_negatives(batch):
    """Without the rest of its set among the columns the loss is lower."""
    found = gallery(batch)
    assert (found.members & ~found.target & ~found.ignored).sum(1).min() >= SET - 2


def test_the_loss_is_the_sum_of_its_three_parts(batch):
    states = shared(batch)
    itc = head(rtc=0.0, align=0.0)(states, batch).loss
    rtc = head(rtc=1.0, align=0.0)(states, batch).loss - itc
    align = head(rtc=0.0, align=1.0)(states, batch).loss - itc
    torch.testing.assert_close(head()(states, batch).loss, itc + 0.4 * rtc + 0.4 * align)
    assert rtc > 0 and align > 0


def test_the_loss_is_the_naive_loop_over_edits_and_pictures(batch):
    model, states, found = head(), shared(batch), gallery(batch)
    edits = batch.rows["cir"]
    text, mask = states.text[edits], states.text_mask[edits]
    seen = model._reference(states, edits, text, mask)
    query, _ = model._composed(seen, text, mask)
    blind, prompt = model._composed(model.prompt.expand(len(edits), -1, -1), text, mask)
    targets = model.targets(states.picture, states.visible).double().tolist()

    def contrast(queries: torch.Tensor) -> float:
        cosines = [
            [
                max(sum(x * y for x, y in zip(of_query, vector, strict=True)) for vector in of)
                for of in targets
            ]
            for of_query in queries.double().tolist()
        ]
        scores = model.scale().item() * torch.tensor(cosines, dtype=torch.float64)
        return naive_contrast(scores, found.target, found.ignored)

    pairs = zip(seen.double().tolist(), prompt.double().tolist(), strict=True)
    apart = [
        (sum(a) / len(a) - sum(b) / len(b)) ** 2
        for of_seen, of_prompt in pairs
        for a, b in zip(zip(*of_seen, strict=True), zip(*of_prompt, strict=True), strict=True)
    ]
    wanted = contrast(query) + 0.4 * contrast(blind) + 0.4 * sum(apart) / len(apart)
    assert model(states, batch).loss.item() == pytest.approx(wanted, rel=1e-5)


def test_the_shared_target_is_one_vector_and_the_papers_is_one_per_sample(batch):
    states = shared(batch)
    both = {kind: head(target=kind)(states, batch).loss for kind in ("sample", "shared")}
    assert both["sample"] != both["shared"]
    prompts = head()._composed(head().prompt.expand(2, -1, -1), states.text[:2], states.text_mask[:2])[1]
    assert not torch.allclose(prompts[0], prompts[1])


def test_the_shared_target_is_the_mean_of_the_learned_prompt(batch):
    model, states = head(target="shared", rtc=0.0, align=1.0), shared(batch)
    seen = referred(model, states, batch).double().mean(1).tolist()
    wanted = model.prompt.double().mean(0).tolist()
    apart = [(a - b) ** 2 for of_seen in seen for a, b in zip(of_seen, wanted, strict=True)]
    without = head(target="shared", rtc=0.0, align=0.0)(states, batch).loss.item()
    found = model(states, batch).loss.item() - without
    assert found == pytest.approx(sum(apart) / len(apart), rel=1e-4)


def test_alignment_pulls_the_seen_prompt_and_leaves_its_target():
    seen, wanted = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    loss = alignment(seen, wanted)
    loss.backward()
    torch.testing.assert_close(loss, torch.nn.functional.mse_loss(seen, wanted))
    assert wanted.grad is None and (seen.grad != 0).any()


def test_the_blind_query_sees_no_picture(batch):
    """L_rtc has no picture in its query: another reference changes L_itc, and no blind query."""
    model, states = head(), shared(batch)
    first, _ = model._composed(model.prompt.expand(len(batch.tokens), -1, -1), states.text, states.text_mask)
    before = model.queries_of(states, batch.rows["cir"])
    states.picture = states.picture.flip(0)
    again, _ = model._composed(model.prompt.expand(len(batch.tokens), -1, -1), states.text, states.text_mask)
    assert torch.equal(first, again)
    assert not torch.allclose(model.queries_of(states, batch.rows["cir"]), before)


def test_a_targets_vectors_depend_on_its_picture_alone(batch):
    model, states = head(), shared(batch)
    together = model.targets(states.picture, states.visible)
    single = model.targets(states.picture[2:3], states.visible[2:3])
    torch.testing.assert_close(together[2:3], single)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(together.shape[:2]))


def test_the_score_is_the_best_of_a_targets_vectors():
    query, targets = torch.randn(2, 8), torch.randn(3, 4, 8)
    wanted = [[max(float(q @ t) for t in target) for target in targets] for q in query]
    torch.testing.assert_close(CirHead.scores(query, targets), torch.tensor(wanted))


def test_recalls_leave_out_what_does_not_compete():
    scores = torch.tensor([[0.9, 0.5, 0.7, 0.1], [0.2, 0.8, 0.3, 0.8]])
    target = torch.tensor([[False, True, False, False], [False, False, False, True]])
    ignored = torch.tensor([[True, False, False, False], [False, False, False, False]])
    members = torch.tensor([[False, True, False, True], [False, False, True, True]])
    found = recalls(scores, Gallery(target, ignored, members))
    assert (int(found["R@1"][0]), found["R@1"][1]) == (0, 2)  # of the second, a tie counts against the model
    assert (int(found["R_s@1"][0]), found["R_s@1"][1]) == (2, 2)
    assert float(found["R@1_chance"][0]) == pytest.approx(1 / 3 + 1 / 4)
    assert float(found["R_s@1_chance"][0]) == pytest.approx(1 / 2 + 1 / 2)


def referred(model: CirHead, states: Shared, batch: Batch) -> torch.Tensor:
    """[E,K,H] what the queries make of the references."""
    edits = batch.rows["cir"]
    return model._reference(states, edits, states.text[edits], states.text_mask[edits])


def test_gated_fusion_shows_the_words_to_the_reference(batch):
    """The gate's own way: the block that reads what it gave is shown no text besides it."""
    model, states, given = head(gated=True), shared(batch), []
    model.gate.register_forward_hook(lambda _module, _inputs, out: given.append(out))
    before = referred(model, states, batch)
    states.text[batch.rows["cir"][2], 1] += 1
    after = referred(model, states, batch)
    for first, second in ((before, after), given):
        changed = (first != second).flatten(1).any(1)
        assert changed.nonzero()[:, 0].tolist() == [2]


def test_gated_fusion_reads_each_edits_own_reference(batch):
    model, states = head(gated=True), shared(batch)
    before = referred(model, states, batch)
    states.picture[batch.text_picture[batch.rows["cir"][2]]] += 1
    changed = (before != referred(model, states, batch)).flatten(1).any(1)
    assert changed.nonzero()[:, 0].tolist() == [2]


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("edits", [0, 1])
@pytest.mark.parametrize("words", [True, False])
def test_one_edit_none_or_one_without_words_gives_numbers(batch, gated, edits, words):
    model, states = head(gated=gated), shared(batch)
    if not words:
        states.text_mask[:, 1:] = False
    outcome = model(states, replace(batch, rows={"cir": batch.rows["cir"][:edits]}))
    outcome.loss.backward()
    assert torch.isfinite(outcome.loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.fixture
def world(tmp_path, monkeypatch):
    synthetic.build(tmp_path, train=80, shards=2, change=synthetic_tasks.with_edits)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_learns_to_find_the_target_in_its_set(world):
    fit.main(["--run", "runs/a", "--set", "tasks={cir: {}}", "optim.epochs=8"])
    rows = (world / "runs/a/plots/metrics/train/cir/R_s@1.tsv").read_text().splitlines()[-10:]
    assert sum(float(row.split("\t")[-1]) for row in rows) / 10 > 0.5  # chance is 1 in 3


def test_a_target_outside_the_given_shards_is_an_error(world):
    with pytest.raises(ShardError, match="is in none of the given shards"):
        fit.main(["--shards", "data/toy-000.tar", "--run", "runs/a", "--set", "tasks={cir: {}}"])


def test_a_text_fused_into_the_pictures_is_refused(world):
    with pytest.raises(ParamsError, match="no text may be fused"):
        fit.main(["--set", "tasks={cir: {}}", "inputs={grid: vit, words: text}"])
    assert not (world / "runs").exists()


def searched(held: HeldOut) -> cir_scores.Search:
    return cir_scores.search(held, "toy", held.pictures(cir_scores.is_edit)["toy"])


def test_the_search_goes_over_every_picture_of_the_split(world):
    fit.main(["--run", "runs/a", "--set", "tasks={cir: {}}", "optim.epochs=8"])
    known = run.open_run(world / "runs/a")
    model, shards = (
        run.trained_model(known, "last").eval(),
        open_shards(["data"], ["vit", "esam"], split="val"),
    )
    found, again = (searched(HeldOut(known, model, shards, batch, torch.device("cpu"))) for batch in (5, 12))
    assert sorted(found.gallery) == [synthetic.key(n) for n in range(80, 92)]
    assert [query.id for query in found.queries] == [f"{key[1:].lstrip('0')}-edit" for key in found.gallery]
    scores = cirr.scores(found.queries, found.gallery, found.scores_QG)
    assert scores["R@10"] > scores["R@1"] >= 0 and scores["R_s@3"] == 1
    torch.testing.assert_close(torch.from_numpy(found.scores_QG), torch.from_numpy(again.scores_QG))
