"""The kinds of fusion: the properties that the papers and the notes state."""

import pytest
import torch
from msgspec import structs
from torch import nn

from contract.errors import ParamsError
from training.fusion import registry
from training.fusion.cross_attention import CrossAttentionFusion
from training.fusion.difnet import DifnetEncoder
from training.fusion.gated import GatedFusionModule
from training.fusion.registry import Shape
from training.trunk.text import TextEncoder
from training.trunk.trunk import TextFusion

SHAPE = Shape(hidden=16, heads=2, dropout=0.0, alpha=0.5, layers=2, separate=1, repeats=2)
SEEN = torch.ones(2, 5, dtype=torch.bool)


def streams(n=5, hidden=16):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, n, hidden, generator=generator), torch.randn(2, n, hidden, generator=generator)


def difnet(**options) -> DifnetEncoder:
    torch.manual_seed(0)
    return DifnetEncoder(16, 2, 32, **options).eval()


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_gated_has_the_parameters_of_the_notes():
    assert parameters(GatedFusionModule(hidden_size=768)) == 2_952_193


def test_gated_with_alpha_zero_is_the_first_stream_bit_for_bit():
    v, c = streams()
    module = GatedFusionModule(16, alpha=0.0)
    assert torch.equal(module(v, c), v)
    module(v, c).sum().backward()
    assert {name for name, p in module.named_parameters() if p.grad.abs().sum() > 0} == {"alpha"}


def test_gated_with_alpha_moves_gradients_to_both_streams():
    v, c = (stream.requires_grad_() for stream in streams())
    GatedFusionModule(16, alpha=0.5)(v, c).square().sum().backward()
    assert v.grad.abs().sum() > 0 and c.grad.abs().sum() > 0


def test_gated_looks_at_its_second_stream():
    v, c = streams()
    module = GatedFusionModule(16, alpha=0.5)
    assert (module(v, c) - module(v, torch.zeros_like(c))).abs().max() > 0


def test_gated_gate_lies_between_zero_and_one():
    """What comes of a value of 1 and a context of 0 is the gate itself."""
    v, c = streams()
    module = GatedFusionModule(16, alpha=1.0)
    with torch.no_grad():
        for layer, bias in ((module.value, 1.0), (module.context, 0.0), (module.out, 0.0)):
            layer.weight.zero_()
            layer.bias.fill_(bias)
        module.out.weight.copy_(torch.eye(16))
    gate = module(v, c) - v
    assert ((gate > 0) & (gate < 1)).all()


def test_difnet_has_the_parameters_of_the_paper():
    assert parameters(DifnetEncoder()) == 9_469_440
    assert parameters(DifnetEncoder().layers[0]) == 3_156_480


def test_difnet_without_separate_layers_adds_the_streams_first():
    u, v = streams()
    module = difnet(separate=0)
    both = u + v
    met = both
    for layer in module.layers:
        met = layer(met, SEEN, 0)
    assert torch.allclose(module(u, v, SEEN, SEEN), met + u + v)


def test_difnet_permutes_with_its_tokens():
    u, v = streams()
    order = torch.tensor([3, 0, 4, 1, 2])
    module = difnet()
    out = module(u, v, SEEN, SEEN)
    assert torch.allclose(module(u[:, order], v[:, order], SEEN, SEEN), out[:, order], atol=1e-5)


def test_difnet_is_symmetric_at_the_start_and_not_once_its_private_norms_differ():
    u, v = streams()
    module = difnet()
    assert torch.allclose(module(u, v, SEEN, SEEN), module(v, u, SEEN, SEEN), atol=1e-5)
    nn.init.constant_(module.layers[0].forward_norms[1].weight, 2.0)
    assert not torch.allclose(module(u, v, SEEN, SEEN), module(v, u, SEEN, SEEN), atol=1e-2)


def test_difnet_without_repeats_only_joins_the_streams():
    u, v = streams()
    module = difnet(repeats=0)
    met = u + v
    for layer in module.layers[1:]:
        met = layer(met, SEEN, 0)
    assert torch.allclose(module(u, v, SEEN, SEEN), met + u + v)


def test_difnet_trains_all_that_it_uses():
    u, v = streams()
    module = difnet()
    module(u, v, SEEN, SEEN).square().sum().backward()
    still = {name for name, p in module.named_parameters() if p.requires_grad and p.grad is None}
    assert still == {
        f"layers.{n}.{norms}.1.{p}"
        for n in (1, 2)
        for norms in ("attention_norms", "forward_norms")
        for p in ("weight", "bias")
    }


def test_difnet_keeps_tokens_that_sum_to_the_padding_index():
    """Normalised features sum to about zero; a mask derived from the sum would hide them."""
    u, v = (stream - stream.mean(-1, keepdim=True) for stream in streams())
    module = difnet()
    moved = v.clone()
    moved[:, 0] += torch.linspace(-1, 1, 16)
    assert (module(u, v, SEEN, SEEN) - module(u, moved, SEEN, SEEN)).abs().amax((0, 2)).min() > 0


@pytest.mark.parametrize("separate", [3, 4])
def test_difnet_refuses_separate_layers_without_one_to_meet_in(separate):
    with pytest.raises(ParamsError, match="separate"):
        difnet(separate=separate)


@pytest.mark.parametrize("kind", registry.FUSIONS)
def test_every_fusion_survives_a_picture_without_a_visible_token(kind):
    torch.manual_seed(0)
    v, c = streams()
    nothing = torch.zeros_like(SEEN)
    module = registry.kind(kind).build(SHAPE)
    out = module(v, torch.zeros_like(c), nothing, nothing)
    assert out.isfinite().all()


@pytest.mark.parametrize("kind", [name for name in registry.FUSIONS if name != "none"])
def test_every_fusion_looks_at_its_second_input_and_moves_gradients_to_both(kind):
    torch.manual_seed(0)
    v, c = (stream.requires_grad_() for stream in streams())
    module = registry.kind(kind).build(SHAPE)
    out = module(v, c, SEEN, SEEN)
    out.square().sum().backward()
    assert v.grad.abs().sum() > 0 and c.grad.abs().sum() > 0
    assert (out - module(v, torch.zeros_like(c), SEEN, SEEN)).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["difnet", "cross_attention"])
def test_hidden_tokens_of_the_second_input_are_not_seen(kind):
    torch.manual_seed(0)
    v, c = streams()
    mask = torch.arange(5).expand(2, 5) < 3
    other = torch.where(mask[..., None], c, torch.full_like(c, 9.0))
    module = registry.kind(kind).build(SHAPE).eval()
    first, second = (module(v, x * mask[..., None], SEEN, mask) for x in (c, other))
    assert torch.equal(first, second)


def test_cross_attention_reads_a_second_input_of_another_length():
    v, _ = streams()
    words, mask = torch.randn(2, 3, 16), torch.tensor([[True, True, False], [True, False, False]])
    out = CrossAttentionFusion(16, 2, 0.0, layers=2)(v, words, SEEN, mask)
    assert out.shape == v.shape


def over_a_text(kind: str, shape: Shape) -> tuple[torch.Tensor, torch.Tensor]:
    """The picture's tokens, and what they are once a text of two words is fused into them."""
    torch.manual_seed(0)
    picture, _ = streams()
    words = torch.tensor([[True, True, True], [True, True, False]])
    fuse = TextFusion(registry.kind(kind), shape)
    return picture, fuse(picture, SEEN, torch.arange(2), torch.randn(2, 3, 16), words)


@pytest.mark.parametrize("kind", ["difnet", "cross_attention"])
def test_what_attends_to_a_text_ends_in_a_norm(kind):
    _, fused = over_a_text(kind, SHAPE)
    assert torch.allclose(fused.mean(-1), torch.zeros(2, 5), atol=1e-5)
    assert torch.allclose(fused.var(-1, unbiased=False), torch.ones(2, 5), atol=1e-3)


def test_gated_over_a_text_with_alpha_zero_is_the_picture_bit_for_bit():
    picture, fused = over_a_text("gated", structs.replace(SHAPE, alpha=0.0))
    assert torch.equal(fused, picture)


@pytest.mark.parametrize("kind", ["none", "gated", "difnet", "cross_attention"])
@torch.no_grad()
def test_a_text_is_fused_into_its_own_picture_and_padding_is_no_word(kind):
    """Each alone with its picture and without padding gives the same."""
    torch.manual_seed(0)
    fuse = TextFusion(registry.kind(kind), SHAPE)
    picture, seen = torch.randn(2, 5, 16), torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    picture = picture * seen[..., None]
    rows, lengths = torch.tensor([1, 0, 1, 1]), [2, 3, 0, 1]
    text, mask = torch.randn(4, 4, 16), torch.arange(4) < 1 + torch.tensor(lengths)[:, None]
    together = fuse(picture, seen, rows, text, mask)
    for number, (row, length) in enumerate(zip(rows.tolist(), lengths, strict=True)):
        one, words = slice(row, row + 1), text[number : number + 1, : 1 + length]
        alone = fuse(
            picture[one], seen[one], torch.tensor([0]), words, torch.ones(1, 1 + length, dtype=torch.bool)
        )
        torch.testing.assert_close(together[number][seen[row]], alone[0][seen[row]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_gated_changes_the_picture_less_over_a_zero_text_than_over_a_real_one(seed):
    """At the sizes of the notes: ViT-B's 257 tokens and a text of 32. ‖out(0) − v‖ < ‖out(c) − v‖."""
    torch.manual_seed(seed)
    picture = nn.functional.layer_norm(torch.randn(2, 257, 64), (64,))
    seen, every = torch.ones(2, 257, dtype=torch.bool), torch.ones(2, 32, dtype=torch.bool)
    fuse = TextFusion(registry.kind("gated"), structs.replace(SHAPE, hidden=64))
    text, mask = TextEncoder(100, 64, 2, 2, 32, 0.0)(torch.randint(100, (2, 32)), every)

    def change(text: torch.Tensor) -> torch.Tensor:
        return (fuse(picture, seen, torch.arange(2), text, mask) - picture).flatten(1).norm(dim=1)

    assert (change(torch.zeros_like(text)) < change(text)).all()


def test_an_unknown_fusion_names_the_nearest():
    with pytest.raises(ParamsError, match="did you mean 'gated'"):
        registry.kind("gatd")
