"""Vision towers of transformers: small random models of the same architecture, saved to a folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from contract.errors import MismatchError, ParamsError
from contract.params import Encoder
from data_pipeline.features import encode
from data_pipeline.features.encode import Frozen
from data_pipeline.features.feature_shard import Task, identify
from data_pipeline.features.transforms import transform
from data_pipeline.stages.features import column_manifest

transformers = pytest.importorskip("transformers")

FOLDER = Path("weights/tower")
TEXT = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
SIDES = TEXT | {"num_hidden_layers": 3, "image_size": 32, "patch_size": 8}
FAMILIES = ("CLIP", "Blip", "Siglip", "Dinov2")
NORMS = {
    "CLIP": "post_layernorm",
    "Blip": "post_layernorm",
    "Siglip": "post_layernorm",
    "Dinov2": "layernorm",
}
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def save(family: str, folder: Path = FOLDER) -> Any:
    """A published folder of the family: the whole model where it has two towers. Returns its vision tower."""
    torch.manual_seed(len(family))
    if family == "Dinov2":
        model = tower = transformers.Dinov2Model(transformers.Dinov2Config(**SIDES))
    else:
        config = getattr(transformers, f"{family}Config")
        text = TEXT | ({"encoder_hidden_size": 16} if family == "Blip" else {})
        width = {"projection_dim": 12} if family == "CLIP" else {}
        model = getattr(transformers, f"{family}Model")(
            config(vision_config=SIDES, text_config=text, **width)
        )
        tower = model.vision_model
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.05 * torch.randn_like(value))
    model.save_pretrained(folder)
    kind = transformers.CLIPImageProcessor
    kind(image_mean=MEAN, image_std=STD, size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    return tower.eval()


def load(**given: object) -> Frozen:
    entry = {"architecture": "hf", "model": str(FOLDER), "weights": "pretrained", "size": 32, "grid": 4}
    return encode.load(Encoder(**(entry | given)))  # type: ignore[arg-type]


def pixels(size: int = 32) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_the_towers_own_behind_its_final_norm(family: str) -> None:
    tower, frozen = save(family), load()
    with torch.inference_mode():
        found = tower(pixels()).last_hidden_state
        expected = tower.post_layernorm(found) if family == "CLIP" else found  # CLIP norms its CLS token only
        torch.testing.assert_close(frozen.model(pixels()), expected)
    assert expected.shape == (2, frozen.tokens, frozen.model.width)
    assert frozen.model.has_cls == (family != "Siglip")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_norm_of_prenorm_tokens_is_the_tokens(family: str) -> None:
    tower = save(family)
    with torch.inference_mode():
        before = load(output="prenorm").model(pixels())
        torch.testing.assert_close(getattr(tower, NORMS[family])(before), load().model(pixels()))


def test_clips_dense_map_is_fg_clips() -> None:
    """x + W_o W_v LN(x), then the MLP, without CLS; the final norm; the projection."""
    save("CLIP")
    whole = transformers.CLIPModel.from_pretrained(FOLDER).eval()
    tower, frozen = whole.vision_model, load(output="dense")
    last = tower.encoder.layers[-1]
    with torch.inference_mode():
        x = tower(pixels(), output_hidden_states=True).hidden_states[-2][:, 1:]
        x = x + last.self_attn.out_proj(last.self_attn.v_proj(last.layer_norm1(x)))
        x = x + last.mlp(last.layer_norm2(x))
        expected = whole.visual_projection(tower.post_layernorm(x))
        torch.testing.assert_close(frozen.model(pixels()), expected)
    assert (frozen.tokens, frozen.model.width, frozen.model.has_cls) == (16, 12, False)


@pytest.mark.parametrize("family", ["Blip", "Siglip", "Dinov2"])
def test_a_dense_map_without_projection_has_the_towers_width(family: str) -> None:
    save(family)
    frozen = load(output="dense")
    assert frozen.model(pixels()).shape == (2, 16, 16)


@pytest.mark.parametrize("family", FAMILIES)
def test_positions_are_resampled_to_another_size(family: str) -> None:
    save(family)
    frozen = load(size=48, grid=3)
    assert frozen.model.grid == 6
    assert encode.encode(frozen, np.zeros((1, 48, 48, 3), np.uint8)).shape == (1, frozen.tokens, 16)


def test_a_square_picture_enters_clip_as_its_own_processor_has_it() -> None:
    save("CLIP")
    picture = np.random.default_rng(2).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    processor = transformers.CLIPImageProcessor.from_pretrained(FOLDER)
    expected = processor(picture, return_tensors="pt")["pixel_values"]
    cropped = transform(picture, "centre_crop", 32)
    found = encode.normalise(torch.from_numpy(cropped[None]), load().model)
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0)  # one step of 255, over a deviation of 0.2


def test_random_weights_repeat_and_are_not_the_folders() -> None:
    save("CLIP")
    first, again, own = load(weights="random"), load(weights="random"), load()
    assert first.weights == again.weights
    assert (first.weights.source, own.weights.source) == ("random", "pretrained")
    assert first.weights.sha256 != own.weights.sha256


def test_another_configuration_of_the_same_weights_is_another_task(tmp_path: Path) -> None:
    save("Siglip")
    entry = Encoder(architecture="hf", model=str(FOLDER), weights="pretrained", size=32, grid=4)

    def task() -> Task:
        return Task("tower", entry, identify(entry), [], str(tmp_path))

    first, again = task(), task()
    described = json.loads((FOLDER / "config.json").read_bytes())
    described["vision_config"]["hidden_act"] = "relu"
    (FOLDER / "config.json").write_text(json.dumps(described))
    other = task()
    assert first.key == again.key != other.key
    assert first.facts.weights == other.facts.weights
    known = column_manifest(first, {})
    assert known.config == first.facts.config
    with pytest.raises(MismatchError, match="configuration"):
        encode.load_as(known)


def test_a_tower_alone_has_no_projection_to_make_up() -> None:
    save("CLIP").save_pretrained(FOLDER)  # over the whole model
    assert load().model.width == 16
    with pytest.raises(MismatchError, match="visual_projection"):
        load(output="dense")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 36}, "a multiple of the patch, 8"),
        ({"grid": 3}, "a divisor of 4"),
        ({"options": {"depth": 2}}, "takes no options"),
        ({"weights": "weights/x.safetensors"}, "name its folder"),
        ({"model": "weights/nothing"}, "no such folder"),
    ],
)
def test_settings_that_do_not_fit_are_named(given: dict[str, object], message: str) -> None:
    save("CLIP")
    with pytest.raises(ParamsError, match=message):
        load(**given)


def test_a_folder_that_dvc_does_not_watch_is_refused() -> None:
    save("CLIP", Path("elsewhere"))
    with pytest.raises(ParamsError, match="lies outside weights/"):
        load(model="elsewhere")


def test_a_family_that_is_not_known_lists_those_that_are() -> None:
    transformers.BertConfig().save_pretrained(FOLDER)
    transformers.CLIPImageProcessor().save_pretrained(FOLDER)
    with pytest.raises(ParamsError, match="unknown family 'bert'") as caught:
        load()
    assert "dinov2" in str(caught.value.expected)
