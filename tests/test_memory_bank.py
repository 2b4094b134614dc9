"""The rings of earlier vectors, and the momentum encoder that can fill them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize

from contract.errors import ParamsError
from training.config import Bank, Itc
from training.heads.itc import ItcHead, alpha_at
from training.objectives import memory_bank
from training.objectives.contrast import Contrasted, Identity, Vectors
from training.objectives.memory_bank import WORDINGS, MemoryBank, Ring


@given(st.integers(1, 7), st.lists(st.integers(0, 20), max_size=6))
def test_a_ring_holds_the_last_k_and_its_pointer_wraps(slots, sizes):
    ring, taken = Ring(slots, 2, 1), []
    for size in sizes:
        new = torch.arange(len(taken), len(taken) + size)
        ring.enqueue(new[:, None].float().expand(-1, 2), new[:, None])
        taken += new.tolist()
    assert ring.filled.sum() == min(slots, len(taken))
    assert sorted(ring.ids[ring.filled, 0].tolist()) == taken[-slots:]
    assert all(number % slots == slot for slot, number in enumerate(ring.ids[:, 0]) if ring.filled[slot])
    assert torch.equal(ring.vectors[ring.filled, 0], ring.ids[ring.filled, 0].float())


def drawn(seed: int, texts: int = 4, first: int = 0) -> Vectors:
    """Texts of as many pictures; groups and words from `first` on."""
    generator = torch.Generator().manual_seed(seed)
    text, picture = (normalize(torch.randn(texts, 6, generator=generator)) for _ in range(2))
    ids = torch.arange(first, first + texts)
    return Vectors(text, picture, Identity(torch.arange(texts), ids, ids))


def head(**options) -> ItcHead:
    made = ItcHead(8, cls=True, options=Itc(width=6, **options))
    return made.train()


def contrast(made: ItcHead, vectors: Vectors) -> torch.Tensor:
    return made.contrast(Contrasted(vectors, vectors, torch.tensor(10.0))).loss


def test_an_unfilled_bank_changes_nothing():
    """But for the last bits: products of other shapes are summed up in another order."""
    plain = contrast(head(), drawn(0)).item()
    assert contrast(head(bank=Bank(8)), drawn(0)).item() == pytest.approx(plain, rel=1e-6)


def test_a_filled_bank_is_more_columns():
    made, plain = head(bank=Bank(8)), head()
    contrast(made, drawn(0))
    earlier, now = drawn(0), drawn(1, first=4)
    both = 10 * now.text @ torch.cat([now.picture, earlier.picture]).T
    back = 10 * now.picture @ torch.cat([now.text, earlier.text]).T
    expected = sum(torch.nn.functional.cross_entropy(scores, torch.arange(4)) for scores in (both, back)) / 2
    assert contrast(made, now).item() == pytest.approx(expected.item(), rel=1e-5)
    assert expected > contrast(plain, now)


def test_copies_and_what_has_the_same_words_in_the_bank_are_not_judged():
    made = head(bank=Bank(8))
    contrast(made, drawn(0, texts=1))
    assert contrast(made, drawn(1, texts=1)) == 0  # a copy of the only one in it
    copy, other = drawn(2, texts=1), drawn(3, texts=1)
    other.identity.group = torch.tensor([9])  # another picture, of which the same is said
    bank = made.bank
    assert bank.more_texts(other.identity).ignored.all()
    assert bank.more_texts(copy.identity).ignored.all()
    assert bank.more_pictures(other.identity).ignored.all()
    stranger = drawn(4, texts=1, first=7)
    assert bank.more_texts(stranger.identity).ignored.sum() == 8 - 2  # the unfilled ones
    assert bank.more_pictures(stranger.identity).ignored.sum() == 8 - 2


@given(st.integers(1, 3 * WORDINGS))
def test_no_words_of_a_picture_in_the_bank_are_judged_however_many_it_has(texts):
    """They do not know the picture: each asks about it by its words alone."""
    bank, vectors, words = MemoryBank(8, 2), torch.ones(texts, 2), torch.arange(texts)
    bank.enqueue(Vectors(vectors, vectors[:1], Identity(torch.zeros_like(words), torch.tensor([5]), words)))
    held = int(bank.pictures.filled.sum())
    asked = Identity(torch.zeros(texts + 1, dtype=torch.int64), torch.tensor([6]), torch.arange(texts + 1))
    ignored = bank.more_pictures(asked).ignored[:, :held]
    assert held == -(-texts // WORDINGS) and ignored[:-1].all() and not ignored[-1].any()


def test_the_bank_waits_for_its_warm_up_in_optimizer_steps_and_is_filled_meanwhile():
    made = head(bank=Bank(8, warmup=2))
    for step in range(2):
        made.step = step
        now = drawn(step, first=4 * step)
        assert contrast(made, now) == contrast(head(), now)
    made.step = 2
    now = drawn(2, first=8)
    assert made.bank.pictures.filled.all() and contrast(made, now) > contrast(head(), now)


def test_evaluation_neither_uses_nor_fills_the_bank():
    made = head(bank=Bank(8))
    contrast(made, drawn(0))
    made.eval()
    now = drawn(1, first=4)
    assert contrast(made, now) == contrast(head(), now)
    assert made.bank.pictures.written == 4


def test_queue_columns_are_unit_and_without_gradient():
    made, vectors = head(bank=Bank(8)), drawn(0)
    vectors.text.requires_grad_(), vectors.picture.requires_grad_()
    contrast(made, vectors)
    for ring in (made.bank.pictures, made.bank.texts):
        assert not ring.vectors.requires_grad
        assert torch.allclose(ring.vectors[ring.filled].norm(dim=1), torch.ones(4))


def test_only_pictures_with_a_text_are_kept():
    bank, of = MemoryBank(8, 6), drawn(0)
    of.identity.text_picture = torch.tensor([0, 0, 2, 2])
    bank.enqueue(of)
    assert bank.pictures.ids[bank.pictures.filled, 0].tolist() == [0, 2]


def test_alpha_starts_at_0_and_never_falls():
    ramp = [alpha_at(0.4, step, 10) for step in range(20)]
    assert ramp[0] == 0 and ramp == sorted(ramp) and ramp[10:] == [0.4] * 10


@pytest.mark.parametrize(
    ("bank", "message"), [(Bank(41), "larger than the set"), (Bank(8, warmup=20), "never be used")]
)
def test_a_bank_that_cannot_be_used_is_refused(bank, message):
    memory_bank.check(Bank(40, warmup=19), "train.tasks.itc.bank", 40, "pictures", steps=20)
    with pytest.raises(ParamsError, match=message):
        memory_bank.check(bank, "train.tasks.itc.bank", 40, "pictures", steps=20)
