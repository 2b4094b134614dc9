"""What holds for every encoder: transform, pooling, determinism; and timm's ViTs."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from contract.column import Transform
from contract.errors import MismatchError, ParamsError
from contract.geometry import affine, window
from contract.manifest import WeightsFacts
from contract.params import Encoder
from data_pipeline.features import encode
from data_pipeline.features.encode import Frozen
from data_pipeline.features.token_encoder import TokenEncoder
from data_pipeline.features.transforms import transform

SMALL = {"embed_dim": 16, "depth": 1, "num_heads": 2}
BARE = SMALL | {"class_token": False, "global_pool": "avg"}


def settings(**given: object) -> Encoder:
    entry = {
        "architecture": "vit",
        "model": "vit_tiny_patch16_224",
        "weights": "random",
        "size": 64,
        "grid": 4,
    }
    return Encoder(**(entry | {"options": SMALL} | given))  # type: ignore[arg-type]


def load(**given: object) -> TokenEncoder:
    return encode.load(settings(**given)).model


class MeanColour(TokenEncoder):
    """A token is the mean colour of its patch: an encoder whose features can be seen."""

    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    width = 3

    def __init__(self, grid: int, has_cls: bool) -> None:
        super().__init__()
        self.grid, self.has_cls = grid, has_cls

    def forward(self, pixels: Tensor) -> Tensor:
        cells = torch.nn.functional.adaptive_avg_pool2d(pixels, self.grid).flatten(2).transpose(1, 2)
        return torch.cat([cells.mean(1, keepdim=True), cells], dim=1) if self.has_cls else cells


def visible(size: int, grid: int, own: int, has_cls: bool) -> Frozen:
    return Frozen(settings(size=size, grid=grid), MeanColour(own, has_cls), WeightsFacts("none", ""), 1)


@given(
    name=st.sampled_from(get_args(Transform)),
    x=st.floats(0.1, 0.9),
    y=st.floats(0.1, 0.9),
    width=st.integers(90, 300),
    height=st.integers(90, 300),
)
def test_a_coloured_square_peaks_where_the_map_says_in_every_encoder_and_transform(
    name: Transform, x: float, y: float, width: int, height: int
) -> None:
    """As large as a cell of the 8 × 8 grid; half a cell from the edge of one it could peak in either."""
    place = affine(name, width, height)
    at = place.apply(np.array([[x, y]]))[0] * 8
    assume((at > 0.5).all() and (at < 7.5).all() and (abs(at % 1 - 0.5) < 0.3).all())
    pixels = np.full((height, width, 3), 40, np.uint8)
    reach = np.array(window(name, width, height)) / 16
    (left, right), (top, bottom) = (
        np.clip([round(middle - r), round(middle + r)], 0, side)
        for middle, r, side in zip((x * width, y * height), reach, (width, height), strict=True)
    )
    pixels[top:bottom, left:right, 0] = 250
    for frozen in (visible(128, 8, 8, True), visible(64, 8, 16, False), visible(96, 8, 24, False)):
        tokens = encode.encode(frozen, transform(pixels, name, frozen.settings.size)[None])[0]
        assert tokens.shape == (frozen.tokens, 3)
        assert divmod(int(tokens[-64:, 0].argmax()), 8) == (int(at[1]), int(at[0]))


@given(grid=st.integers(1, 4), k=st.integers(1, 4), cls=st.booleans(), seed=st.integers(0, 99))
def test_pooling_is_the_mean_of_whole_blocks_and_keeps_cls(grid: int, k: int, cls: bool, seed: int) -> None:
    own = grid * k
    tokens = torch.from_numpy(np.random.default_rng(seed).normal(size=(2, own**2 + cls, 3)))
    pooled = encode.pool(tokens, cls, grid)
    blocks = tokens[:, cls:].reshape(2, grid, k, grid, k, 3).mean((2, 4)).reshape(2, grid**2, 3)
    torch.testing.assert_close(pooled[:, cls:], blocks)
    assert torch.equal(pooled[:, :cls], tokens[:, :cls])


def test_pixels_are_normalised_once_by_the_models_own_mean() -> None:
    model = encode.load(settings()).model
    assert model.mean == (0.5, 0.5, 0.5)
    white = encode.normalise(torch.full((1, 4, 4, 3), 255, dtype=torch.uint8), model)
    assert torch.equal(white, torch.ones(1, 3, 4, 4))


def test_a_vits_tokens_are_cls_then_cells_without_registers() -> None:
    plain = encode.load(settings(options=SMALL | {"reg_tokens": 4}))
    assert plain.model(torch.randn(2, 3, 64, 64)).shape == (2, 17, 16)
    bare = encode.load(settings(options=BARE))
    assert (bare.model.has_cls, bare.tokens) == (False, 16)


@pytest.mark.parametrize(
    ("model", "has_cls"),
    [
        ("vit_small_patch14_dinov2", True),
        ("vit_small_patch14_reg4_dinov2", True),
        ("vit_small_patch16_224.dino", True),
        ("vit_base_patch16_clip_224", True),
        ("vit_base_patch16_siglip_224", False),
        ("deit_tiny_distilled_patch16_224", True),
        ("vit_small_patch16_dinov3", True),
    ],
)
def test_timms_families_give_their_grid_at_any_size(model: str, has_cls: bool) -> None:
    size = 70 if "patch14" in model else 80
    frozen = encode.load(settings(model=model, size=size, grid=5, options=SMALL))
    pixels = torch.randn(1, 3, size, size)
    tokens, before = (
        load(model=model, size=size, grid=5, output=output)(pixels) for output in ("tokens", "prenorm")
    )
    assert tokens.shape == (1, 25 + has_cls, 16) == (1, frozen.tokens, 16)
    torch.testing.assert_close(frozen.model.model.norm(before), tokens)  # type: ignore[operator, union-attr]


def test_a_vits_dense_map_is_fg_clips() -> None:
    """x + W_o W_v LN(x), then the MLP, without CLS; then the final norm."""
    options, pixels = SMALL | {"depth": 3, "init_values": 0.1}, torch.randn(2, 3, 64, 64)
    dense = encode.load(settings(output="dense", options=options))
    assert (dense.model.has_cls, dense.tokens) == (False, 16)
    vit: Any = dense.model.model
    last = vit.blocks[-1]
    x = vit.blocks[:-1](vit.norm_pre(vit._pos_embed(vit.patch_embed(pixels))))[:, 1:]
    value = last.attn.qkv(last.norm1(x))[..., -16:]  # queries, keys, values
    x = x + last.ls1(last.attn.proj(value))
    x = x + last.ls2(last.mlp(last.norm2(x)))
    torch.testing.assert_close(dense.model(pixels), vit.norm(x))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"output": "prenorm", "options": BARE}, "norms its pooled vector"),
        ({"output": "dense", "options": SMALL}, "two blocks or more"),
        ({"output": "dense", "model": "vit_small_patch16_dinov3"}, "Eva"),
        ({"output": "dense", "architecture": "esam", "model": "efficient_sam_vitt"}, "expected: .*tokens"),
    ],
)
def test_an_output_that_a_model_does_not_have_is_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        encode.load(settings(**given))


def test_a_vits_batch_of_two_equals_two_singles_and_its_seed_repeats() -> None:
    first, again = encode.load(settings()), encode.load(settings())
    pixels = torch.randn(2, 3, 64, 64)
    singles = torch.cat([first.model(pixels[:1]), first.model(pixels[1:])])
    torch.testing.assert_close(again.model(pixels), singles, rtol=1e-4, atol=1e-5)
    assert first.weights == again.weights


def test_a_timm_checkpoint_loses_its_classifier_and_is_resampled(tmp_path: Path) -> None:
    larger = encode.load(settings(size=96, grid=6)).model
    weights = {name.removeprefix("model."): value for name, value in larger.state_dict().items()}
    head = {"head.weight": torch.zeros(10, 16), "head.bias": torch.zeros(10)}
    save_file(weights | head, tmp_path / "vit.safetensors")
    loaded = encode.load(settings(weights=str(tmp_path / "vit.safetensors")))
    block = "model.blocks.0.attn.qkv.weight"
    assert torch.equal(loaded.model.state_dict()[block], larger.state_dict()[block])
    with pytest.raises(MismatchError, match="not of this model"):
        encode.load(settings(weights=str(tmp_path / "vit.safetensors"), options=SMALL | {"depth": 2}))


def test_weights_that_cannot_be_fetched_name_the_model_and_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ParamsError, match="vit_tiny_patch16_224: its published weights") as caught:
        encode.load(settings(weights="pretrained", size=224, grid=14, options={}))
    assert "name it as `weights`" in str(caught.value.fix)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": "vit_tiny_patch16_225"}, "did you mean 'vit_tiny_patch16_224'"),
        ({"model": "resnet18", "options": {}}, "resnet18"),
        ({"options": {"embed_dimension": 3}}, "embed_dimension"),
        ({"size": 72, "grid": 4}, "size does not fit"),
        ({"grid": 3}, "a divisor of 4"),
    ],
)
def test_settings_that_do_not_fit_a_vit_are_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        encode.load(settings(**given))
