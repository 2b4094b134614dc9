"""The kinds of fusion as their equations say, from the weights alone and in double precision.

Legend: B pictures, N tokens, K keys, H hidden.
"""

import math

import pytest
import torch
from torch import Tensor, nn

from training.fusion.cross_attention import CrossAttentionFusion, CrossLayer
from training.fusion.difnet import DifnetEncoder, DifnetLayer
from training.fusion.gated import GatedFusionModule
from training.modules.attention import Attention, FeedForward

B, N, HIDDEN, HEADS = 2, 5, 8, 2


def perturbed(module: nn.Module) -> nn.Module:
    """No two of its norms and biases alike, so that none can stand for another."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


def stream(seed: int, tokens: int = N) -> tuple[Tensor, Tensor]:
    """[B,N,H] and a mask [B,N] of some of them, never of all or none."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(B, tokens, generator=generator) > 0.4
    mask[:, 0], mask[:, -1] = True, False
    return torch.randn(B, tokens, HIDDEN, generator=generator), mask


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return x @ layer.weight.double().T + layer.bias.double()


def norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    apart = x - x.mean(-1, keepdim=True)
    deviation = (apart.square().mean(-1, keepdim=True) + layer.eps).sqrt()
    return apart / deviation * layer.weight.double() + layer.bias.double()


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + (-x).exp())


def attention(layer: Attention, x: Tensor, context: Tensor, mask: Tensor) -> Tensor:
    """softmax(q k / √d) v over the visible keys, one picture, head and query after the other."""
    query = linear(layer.query, x)
    key, value = linear(layer.key_value, context).chunk(2, dim=-1)
    mixed, width = torch.zeros_like(query), HIDDEN // layer.heads
    for picture in range(len(x)):
        seen = mask[picture].nonzero()[:, 0].tolist()
        for first in range(0, HIDDEN, width):
            part = slice(first, first + width)
            for token in range(x.shape[1]):
                asked = query[picture, token, part]
                shares = [math.exp(asked @ key[picture, k, part] / math.sqrt(width)) for k in seen]
                for share, k in zip(shares, seen, strict=True):
                    mixed[picture, token, part] += share / sum(shares) * value[picture, k, part]
    return linear(layer.out, mixed)


def f(layer: DifnetLayer, x: Tensor, mask: Tensor, m: int) -> Tensor:
    """a = LN(x + att(x)); b = LN_m(x + a); LN'_m(b + W2 ReLU(W1 b))."""
    a = norm(layer.norm, x + attention(layer.attention, x, x, mask))
    b = norm(layer.attention_norms[m], x + a)
    return norm(layer.forward_norms[m], b + linear(layer.narrow, linear(layer.widen, b).clamp(min=0)))


def difnet(module: DifnetEncoder, u: Tensor, v: Tensor, u_mask: Tensor, v_mask: Tensor) -> Tensor:
    """u + x1 + x2, where x1 and x2 are the streams as they meet in layer Lf."""
    for i, layer in enumerate(module.layers):
        if i < module.separate:
            for _ in range(module.repeats):
                u, v = f(layer, u, u_mask, 0), f(layer, v, v_mask, 1)
        elif i == module.separate:
            x1, x2 = u, v * v_mask[..., None]
            u = f(layer, x1 + x2, u_mask, 0)
        else:
            u = f(layer, u, u_mask, 0)
    return u + x1 + x2


@torch.no_grad()
@pytest.mark.parametrize(("separate", "repeats", "layers"), [(1, 2, 3), (2, 3, 4), (1, 0, 2), (0, 2, 2)])
def test_difnet_is_its_equations(separate, repeats, layers):
    torch.manual_seed(0)
    options = {"separate": separate, "repeats": repeats, "layers": layers}
    module = perturbed(DifnetEncoder(HIDDEN, HEADS, 16, **options))
    (u, u_mask), (v, v_mask) = stream(2), stream(3)
    expected = difnet(module, u.double(), v.double(), u_mask, v_mask)
    torch.testing.assert_close(module(u, v, u_mask, v_mask).double(), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_gated_is_its_equations():
    """g = σ(W_g [v; c]); v + α · W_o (g ⊙ W_v v + (1 − g) ⊙ W_c c)."""
    torch.manual_seed(0)
    module = perturbed(GatedFusionModule(HIDDEN, alpha=0.7))
    (v, _), (c, _) = stream(2), stream(3)
    g = sigmoid(linear(module.gate, torch.cat([v, c], dim=-1).double()))
    mixed = g * linear(module.value, v.double()) + (1 - g) * linear(module.context, c.double())
    expected = v.double() + module.alpha.double() * linear(module.out, mixed)
    torch.testing.assert_close(module(v, c).double(), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_gated_lays_each_text_over_its_picture():
    """As its mean stood on every place of that picture."""
    torch.manual_seed(0)
    module = perturbed(GatedFusionModule(HIDDEN, alpha=0.7))
    (v, _), c, rows = stream(2), torch.randn(5, HIDDEN), torch.tensor([1, 0, 0, 1, 1])
    spread = c[:, None].expand(-1, v.shape[1], -1)
    torch.testing.assert_close(module(v, c, rows=rows), module(v[rows], spread), rtol=1e-5, atol=1e-5)
    assert module(v, c[:0], rows=rows[:0]).shape == (0, *v.shape[1:])


def read(layer: CrossLayer, x: Tensor, other: Tensor, mask: Tensor) -> Tensor:
    """x + att(LN x, LN' other), then x + feed-forward(LN x)."""
    x = x + attention(layer.attention, norm(layer.norm, x), norm(layer.norm_other, other), mask)
    return x + feed_forward(layer.forward_layer, norm(layer.norm_forward, x))


def feed_forward(layer: FeedForward, x: Tensor) -> Tensor:
    """W2 (h · Φ(h)) of h = W1 x."""
    wide = linear(layer[0], x)
    return linear(layer[-1], wide * 0.5 * (1 + torch.erf(wide / math.sqrt(2))))


@torch.no_grad()
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_cross_attention_is_each_stream_reading_what_the_other_has_become(layers):
    torch.manual_seed(0)
    module = perturbed(CrossAttentionFusion(HIDDEN, HEADS, 0.0, layers=layers))
    (first, v_mask), (second, c_mask) = stream(2), stream(3, tokens=4)
    v, c = first.double(), second.double()
    for layer in range(layers):
        updated = read(module.forth[layer], v, c, c_mask)
        if layer < layers - 1:
            c = read(module.back[layer], c, v, v_mask)
        v = updated
    torch.testing.assert_close(module(first, second, v_mask, c_mask).double(), v, rtol=1e-4, atol=1e-4)
