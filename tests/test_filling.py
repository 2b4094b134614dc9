"""What replaces hidden tokens: visible ones stay as they are, and nothing that was hidden comes through."""

import pytest
import torch

from training.modules.filling import KINDS, LEARNED, Filling

VISIBLE = torch.tensor([[True, True, False, False], [True, False, False, False]])
HIDDEN = torch.tensor([[False, False, True, False], [False, True, True, False]])  # the last is padding


def filled(kind: str, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return Filling(kind, 3)(tokens, VISIBLE, HIDDEN)


@pytest.mark.parametrize("kind", KINDS)
def test_visible_tokens_are_bit_identical(kind):
    tokens = torch.randn(2, 4, 3)
    assert torch.equal(filled(kind, tokens)[0][VISIBLE], tokens[VISIBLE])


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_hidden_leaves_no_trace(kind):
    tokens = torch.randn(2, 4, 3)
    other = torch.where(HIDDEN[..., None], torch.full_like(tokens, 9.0), tokens)
    (first, seen), (second, _) = filled(kind, tokens), filled(kind, other)
    assert torch.equal(first[seen], second[seen])


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_never_looked_at_and_dropped_tokens_are_not_either(kind):
    _, seen = filled(kind, torch.randn(2, 4, 3))
    assert torch.equal(seen, VISIBLE if kind == "drop" else VISIBLE | HIDDEN)


def test_mean_is_the_mean_of_the_visible_tokens():
    tokens = torch.randn(2, 4, 3)
    assert torch.allclose(filled("mean", tokens)[0][0, 2], tokens[0, :2].mean(0))


def test_noise_has_the_spread_of_the_visible_tokens():
    tokens = torch.randn(1, 4000, 3) * torch.tensor([0.1, 1.0, 5.0]) + 2
    visible = torch.arange(4000)[None] < 2000
    torch.manual_seed(0)
    made = Filling("noise", 3)(tokens, visible, ~visible)[0][~visible]
    assert torch.allclose(made.mean(0), tokens[visible].mean(0), atol=0.3)
    assert torch.allclose(made.std(0), tokens[visible].std(0), rtol=0.1)


def test_the_learned_token_is_trained():
    filling = Filling(LEARNED, 3)
    filling(torch.randn(2, 4, 3), VISIBLE, HIDDEN)[0].sum().backward()
    assert filling.learned is not None and filling.learned.grad.tolist() == [3.0] * 3
