"""EfficientSAM's image encoder: sizes, checkpoints, positions."""

from pathlib import Path

import pytest
import torch
from column_project import TINY
from torch import Tensor

from contract.errors import FuselineError, MismatchError, ParamsError
from contract.params import Encoder
from data_pipeline.features import encode


def settings(**given: object) -> Encoder:
    entry = {
        "architecture": "esam",
        "model": "efficient_sam_vitt",
        "weights": "random",
        "size": 64,
        "grid": 4,
    }
    return Encoder(**(entry | given))  # type: ignore[arg-type]


def tiny(**given: object) -> Encoder:
    return settings(**({"options": TINY} | given))


def official(weights: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """A checkpoint as published: the whole of EfficientSAM under "model"."""
    own = {f"image_encoder.{name}": value for name, value in weights.items()}
    return {"model": own | {"prompt_encoder.point_embeddings.0.weight": torch.zeros(1, 8)}}


@pytest.mark.parametrize(
    ("model", "count"), [("efficient_sam_vitt", 6_163_840), ("efficient_sam_vits", 22_353_664)]
)
def test_parameters_are_as_many_as_published(model: str, count: int) -> None:
    encoder = encode.load(settings(model=model)).model
    assert sum(value.numel() for value in encoder.parameters()) == count


def test_the_names_of_the_published_checkpoint() -> None:
    names = set(encode.load(settings()).model.state_dict())
    block = ["norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"]
    parts = [f"blocks.{number}.{part}" for number in range(12) for part in block]
    parts += ["patch_embed.proj", "neck.1", "neck.3"]
    expected = {f"{part}.{kind}" for part in parts for kind in ("weight", "bias")}
    assert names == expected | {"pos_embed", "neck.0.weight", "neck.2.weight"}


@pytest.mark.parametrize(("size", "grid"), [(64, 4), (224, 14), (96, 6)])
def test_tokens_are_the_grid_row_by_row_without_cls(size: int, grid: int) -> None:
    frozen = encode.load(tiny(size=size, grid=grid))
    assert frozen.model(torch.randn(2, 3, size, size)).shape == (2, grid**2, TINY["neck_dim"])


def test_a_batch_of_two_equals_two_singles() -> None:
    model, pixels = encode.load(tiny()).model, torch.randn(2, 3, 64, 64)
    singles = torch.cat([model(pixels[:1]), model(pixels[1:])])
    torch.testing.assert_close(model(pixels), singles, rtol=1e-4, atol=1e-5)


def test_positions_are_resampled_without_the_place_of_cls() -> None:
    same, smaller = (encode.load(tiny(size=size, grid=size // 16)).model for size in (224, 112))
    assert torch.equal(same.positions(), same.pos_embed[:, 1:])  # type: ignore[operator, index]
    with torch.no_grad():
        smaller.pos_embed.copy_(torch.ones_like(smaller.pos_embed))  # type: ignore[operator, arg-type]
        smaller.pos_embed[:, 0] = 100  # type: ignore[index, operator]
    torch.testing.assert_close(smaller.positions(), torch.ones(1, 49, TINY["embed_dim"]))  # type: ignore[operator]


def test_an_official_checkpoint_is_taken_by_its_path(tmp_path: Path) -> None:
    source = encode.load(tiny()).model
    with torch.no_grad():
        for value in source.parameters():
            value.add_(0.1)
    torch.save(official(source.state_dict()), tmp_path / "efficient_sam_vitt.pt")
    loaded = encode.load(tiny(weights=str(tmp_path / "efficient_sam_vitt.pt")))
    pixels = torch.randn(1, 3, 64, 64)
    assert torch.equal(loaded.model(pixels), source(pixels))
    assert not loaded.weights.demo


def test_weights_of_another_model_are_refused_with_names(tmp_path: Path) -> None:
    weights = encode.load(tiny()).model.state_dict()
    weights["extra"] = weights.pop("neck.3.bias")
    weights["pos_embed"] = weights["pos_embed"][:, :50]
    torch.save(official(weights), tmp_path / "odd.pt")
    with pytest.raises(MismatchError) as caught:
        encode.load(tiny(weights=str(tmp_path / "odd.pt")))
    assert caught.value.found == "1 missing: neck.3.bias; 1 unexpected: extra; 1 other shape: pos_embed"


class Trap:
    """An object whose unpickling would run code."""

    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("code ran",))


def test_a_file_with_code_or_damage_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": Trap()}, tmp_path / "trap.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    for name in ("trap.pth", "cut.safetensors"):
        with pytest.raises(MismatchError, match="no file of weights"):
            encode.load(tiny(weights=str(tmp_path / name)))
    assert "code ran" not in capsys.readouterr().out
    with pytest.raises(FuselineError, match="no such weights file"):
        encode.load(tiny(weights=str(tmp_path / "none.pth")))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 60}, "not a multiple of the patch"),
        ({"grid": 3}, "grid: 3"),
        ({"weights": "pretrained"}, "cannot be fetched by name"),
        ({"model": "efficient_sam_vit"}, "did you mean"),
        ({"options": {"heads": 2}}, "num_heads"),
        ({"architecture": "vitt"}, "did you mean 'vit'"),
    ],
)
def test_settings_that_do_not_fit_are_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        encode.load(settings(**given))
