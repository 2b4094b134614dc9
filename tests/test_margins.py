"""Margins: a neighbour text is less like the picture than the picture's own text is, or it is left out."""

import argparse
from pathlib import Path
from typing import Any

import by_hand
import msgspec
import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contract import codec, manifest
from contract.errors import ParamsError
from contract.manifest import FeatureManifest, WeightsFacts
from contract.params import TextSelection
from data_pipeline.negatives import margins
from data_pipeline.negatives.margins import Margins
from data_pipeline.negatives.neighbours import NONE, normalised
from data_pipeline.negatives.statistics import Statistics
from data_pipeline.negatives.text_vectors import TextEncoder
from data_pipeline.shards import shard_reader
from data_pipeline.stages import features, negatives

some_margin = st.one_of(st.none(), st.floats(0, 1))


@given(st.integers(0, 2**32 - 1), some_margin, some_margin)
def test_what_stays_within_a_margin_is_found(
    seed: int, absolute: float | None, relative: float | None
) -> None:
    draw = np.random.default_rng(seed)
    pictures, texts = (normalised(draw.normal(size=(n, 4)).astype(np.float32)) for n in (3, 5))
    picture_of, said = draw.integers(0, 3, 6), draw.integers(0, 5, 6)
    seen = np.array([True, True, False])
    anchors, near = np.arange(6), draw.integers(0, 5, (6, 3))
    space = Margins(absolute, relative, pictures, seen, texts, picture_of)
    found = margins.too_like(space, anchors, said, near)
    chosen = {"absolute_margin": absolute, "relative_margin": relative}
    assert set(found) == {name for name, margin in chosen.items() if margin is not None}
    for row, column in np.ndindex(near.shape):
        picture = pictures[picture_of[row]].astype(np.float64)
        own, other = picture @ texts[said[row]], picture @ texts[near[row, column]]
        limits = {"absolute_margin": own - (absolute or 0), "relative_margin": own * (1 - (relative or 0))}
        for name, out in found.items():
            if abs(other - limits[name]) > 1e-9:
                assert out[row, column] == (not seen[picture_of[row]] or other > limits[name])


def test_without_margins_nothing_is_compared() -> None:
    assert margins.too_like(None, np.arange(2), np.arange(2), np.full((2, 3), NONE)) == {}


CLIP = TextEncoder("weights/clip", 12, "ab", projected=True)
DENSE = {"architecture": "hf", "model": "weights/clip", "output": "dense", "width": 12}


@pytest.fixture
def column(tmp_path: Path) -> FeatureManifest:
    by_hand.build(tmp_path)
    found = manifest.load(tmp_path / "features/vit", FeatureManifest)
    return replace(found, **DENSE, weights=WeightsFacts("pretrained", "cd"))


@pytest.mark.parametrize(
    ("encoder", "given"),
    [
        (TextEncoder("tfidf", 12), {}),
        (replace(CLIP, name="weights/other"), {}),
        (replace(CLIP, projected=False), {}),
        (replace(CLIP, width=16), {}),
        (CLIP, {"architecture": "vit"}),
        (CLIP, {"output": "tokens"}),
        (CLIP, {"weights": WeightsFacts("random", "cd")}),
    ],
)
@pytest.mark.parametrize("margin", [{"absolute_margin": 0.0}, {"relative_margin": 0.1}])
def test_margins_need_one_space_of_pictures_and_texts(
    column: FeatureManifest, encoder: TextEncoder, given: dict[str, Any], margin: dict[str, float]
) -> None:
    chosen = TextSelection(**margin)
    margins.check(chosen, CLIP, column)
    margins.check(TextSelection(), encoder, replace(column, **given))
    with pytest.raises(ParamsError, match="says nothing about a picture's text"):
        margins.check(chosen, encoder, replace(column, **given))


SAID = {  # picture → its statements; "1" and "2" are the same photograph
    "1": ["the red dog", "a cat on the grass", "horse runs in the sun", "a big red horse"],
    "10": ["dog sits", "red grass", "big cat under a horse", "the sun"],
    "2": ["a dog runs", "the cat sits on a horse", "grass in the sun", "big red sun"],
}
TEXTS = [(picture, text) for picture, texts in SAID.items() for text in texts]
GROUPS = {picture: group for _, picture, *_, group in by_hand.PLACES}
TOWER = {"architecture": "hf", "model": "weights/clip", "weights": "pretrained", "size": 32, "grid": 4}
ABSOLUTE, RELATIVE = 0.05, 0.3


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A project whose column `clip` and texts are by one small CLIP, which is returned."""
    tiny = pytest.importorskip("tiny_text_encoders")
    pytest.importorskip("data_pipeline.negatives.text_tower").load.cache_clear()  # of another folder
    by_hand.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    whole = tiny.save_clip(Path("weights/clip"))
    texts = [by_hand.text(text, picture, "statement", text) for picture, text in TEXTS]
    by_hand.table(tmp_path / "spans/gqa/texts.parquet", texts, by_hand.TEXT)
    features.run(argparse.Namespace(params=settings(), encoder="clip"))
    return whole


def settings(**text: object) -> Path:
    """params.yaml with these options of negatives.text."""
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["encoders"] = {"clip": TOWER | {"output": "dense"}}
    content["negatives"] = {
        "encoder": "clip",
        "text": {"encoder": "weights/clip", "num_negatives": len(TEXTS)} | text,
    }
    Path("params.yaml").write_text(yaml.safe_dump(content))
    return Path("params.yaml")


def cosines(whole: Any) -> dict[tuple[str, str], float]:
    """(picture, text) → its cosine, by CLIP itself, a text at a time."""
    tokenizer = pytest.importorskip("transformers").AutoTokenizer.from_pretrained("weights/clip")
    found = {}
    for key, content, _ in shard_reader.members(Path("features/clip/gqa-000.tar"), "clip.npy"):
        picture = torch.tensor(codec.decode_array(content, key)).double().mean(0)
        for _, text in TEXTS:
            with torch.inference_mode():
                vector = whole.get_text_features(**tokenizer(text, return_tensors="pt")).pooler_output[0]
            found[key, text] = float(torch.cosine_similarity(picture, vector.double(), dim=0))
    return found


@pytest.mark.parametrize(
    "given",
    [
        {"absolute_margin": ABSOLUTE},
        {"relative_margin": RELATIVE},
        {"absolute_margin": ABSOLUTE, "relative_margin": RELATIVE},
    ],
)
def test_the_stage_keeps_what_is_less_like_the_picture(clip: Any, given: dict[str, float]) -> None:
    negatives.run(argparse.Namespace(params=settings(**given)))
    near = {
        text: set(found.near.text)
        for key, content, _ in shard_reader.members(Path("negatives/gqa-000.tar"), "neg.json")
        for text, found in codec.decode_negatives(content, key).texts.items()
    }
    likeness, kept, left_out = cosines(clip), 0, 0
    for key, text in TEXTS:
        own = likeness[key, text]
        limits = {"absolute_margin": own - ABSOLUTE, "relative_margin": own * (1 - RELATIVE)}
        limit = min(limits[name] for name in given)
        others = {other for picture, other in TEXTS if GROUPS[picture] != GROUPS[key]}
        expected = {other for other in others if likeness[key, other] <= limit}
        assert near.get(text, set()) == expected
        kept, left_out = kept + len(expected), left_out + len(others - expected)
    statistics = msgspec.json.decode(Path("negatives/statistics.json").read_bytes(), type=Statistics)
    (part,) = (part for part in statistics.parts if (part.dataset, part.split) == ("gqa", "train"))
    assert part.texts.near == kept > 0
    assert sum(part.texts.filters[name] for name in given) == left_out > 0


def test_another_encoder_than_the_pictures_is_refused_before_any_work(clip: Any) -> None:
    chosen = settings(encoder="tfidf", absolute_margin=ABSOLUTE)
    with pytest.raises(ParamsError, match="texts by tfidf"):
        negatives.run(argparse.Namespace(params=chosen))
    assert not Path("negatives").exists()
