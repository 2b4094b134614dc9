"""Text encoders of transformers: small random ones, saved to a folder, against the library's own answer."""

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import by_hand
import numpy as np
import pytest
import torch

from contract import manifest
from contract.errors import FuselineError, MismatchError, ParamsError
from contract.manifest import NegativesManifest
from contract.params import TextSelection
from data_pipeline.negatives import text_vectors
from data_pipeline.negatives.neighbours import Vectors
from data_pipeline.negatives.text_vectors import TextEncoder
from data_pipeline.stages import negatives

transformers = pytest.importorskip("transformers")
tiny = pytest.importorskip("tiny_text_encoders")
text_tower = pytest.importorskip("data_pipeline.negatives.text_tower")

FOLDER = Path("weights/text")
TEXTS = ["the dog", "a cat on the grass", "Red horse", "sun " * 20, "dog " * 60, "zebra?"]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    text_tower.load.cache_clear()  # another folder of the same name
    monkeypatch.chdir(tmp_path)
    return tmp_path


def encoded(texts: list[str]) -> tuple[TextEncoder, Vectors]:
    text_tower.load.cache_clear()
    encoder = text_vectors.identify(TextSelection(encoder=str(FOLDER)))
    return encoder, text_vectors.vectors(encoder, texts, 1, "texts")


def alone(text: str, forward: Callable[..., Any]) -> Vectors:
    """The library's vector of one text, of length 1."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER)
    ids = tokenizer(text, truncation=True, max_length=tiny.LONGEST, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        vector: Vectors = torch.nn.functional.normalize(forward(ids), dim=1)[0].numpy()
    return vector


def test_a_text_of_clip_is_its_projection() -> None:
    whole = tiny.save_clip(FOLDER)
    encoder, vectors = encoded(TEXTS)
    for text, vector in zip(TEXTS, vectors, strict=True):
        expected = alone(text, lambda ids: whole.get_text_features(ids).pooler_output)
        np.testing.assert_allclose(vector, expected, atol=1e-5)
    assert (encoder.width, encoder.projected) == (12, True)


def test_a_text_of_another_encoder_is_the_mean_of_its_tokens() -> None:
    bert = tiny.save_bert(FOLDER).bert
    encoder, vectors = encoded(TEXTS)
    for text, vector in zip(TEXTS, vectors, strict=True):
        expected = alone(text, lambda ids: bert(ids).last_hidden_state.mean(1))
        np.testing.assert_allclose(vector, expected, atol=1e-5)
    assert (encoder.width, encoder.projected) == (16, False)


def test_a_text_has_one_vector_whatever_stands_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.save_clip(FOLDER)
    texts = [f"{'the ' * (n % 30)}{word}" for n, word in enumerate(tiny.WORDS * 12)]
    _, vectors = encoded(texts)
    assert len(texts) > 2 * text_tower.BATCH
    _, backwards = encoded(texts[::-1])
    assert (backwards[::-1] == vectors).all()
    monkeypatch.setattr(text_vectors, "BLOCK", 50)
    _, in_blocks = encoded(texts)
    assert (in_blocks == vectors).all()


def test_no_texts_have_no_vectors() -> None:
    tiny.save_bert(FOLDER)
    assert encoded([])[1].shape == (0, 16)


def test_the_hash_is_of_the_weights_that_are_read() -> None:
    tiny.save_bert(FOLDER)  # its pooler is drawn anew each time
    first, again = encoded([])[0], encoded([])[0]
    assert first.weights == again.weights != ""
    model = transformers.BertForMaskedLM.from_pretrained(FOLDER)
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[5] += 1
    model.save_pretrained(FOLDER)
    assert encoded([])[0].weights != first.weights


def no_text_encoder() -> None:
    transformers.ViTConfig().save_pretrained(FOLDER)
    tiny.save_tokenizer(FOLDER)


def two_towers() -> None:
    transformers.SiglipConfig().save_pretrained(FOLDER)
    tiny.save_tokenizer(FOLDER)


def encoder_and_decoder() -> None:
    transformers.T5Config().save_pretrained(FOLDER)
    tiny.save_tokenizer(FOLDER)


def no_padding() -> None:
    tiny.save_bert(FOLDER)
    tiny.save_tokenizer(FOLDER, pad=None)


def no_weights() -> None:
    tiny.save_bert(FOLDER)
    (FOLDER / "model.safetensors").unlink()


def no_tokenizer() -> None:
    tiny.save_bert(FOLDER)
    for path in FOLDER.glob("tokenizer*"):
        path.unlink()


def foreign_tokenizer() -> None:
    tiny.save_bert(FOLDER)
    tokenizer = tiny.save_tokenizer(FOLDER)
    tokenizer.add_tokens(["purple", "zebra"])
    tokenizer.save_pretrained(FOLDER)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        (lambda: None, "no such folder"),
        (no_weights, "cannot be fetched or read"),
        (no_tokenizer, "its tokenizer is missing"),
        (foreign_tokenizer, "not the model's"),
        (no_text_encoder, "is not a text encoder"),
        (two_towers, "is not a text encoder"),
        (encoder_and_decoder, "is not a text encoder"),
        (no_padding, "a padding token"),
    ],
)
def test_what_is_no_text_encoder_is_said(saved: Callable[[], None], message: str) -> None:
    saved()
    with pytest.raises(ParamsError, match=message):
        encoded([])


def test_a_clip_without_projection_is_refused() -> None:
    tiny.save_clip(FOLDER).text_model.save_pretrained(FOLDER)  # over the whole model
    with pytest.raises(MismatchError, match="text_projection"):
        encoded([])


def test_a_folder_that_dvc_does_not_watch_is_refused() -> None:
    tiny.save_bert(Path("elsewhere"))
    with pytest.raises(ParamsError, match="lies outside weights/"):
        text_vectors.identify(TextSelection(encoder="elsewhere"))


def test_without_transformers_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.save_bert(FOLDER)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ParamsError, match=r"fuseline\[hf\]"):
        encoded([])


def test_a_vector_that_is_not_finite_names_its_text() -> None:
    model = tiny.save_bert(FOLDER)
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[len(tiny.SPECIALS) + tiny.WORDS.index("cat")] = torch.nan
    model.save_pretrained(FOLDER)
    with pytest.raises(FuselineError, match="a cat on the grass"):
        encoded(TEXTS)


def test_the_stage_says_which_weights_it_used(project: Path) -> None:
    tiny.save_bert(FOLDER)
    by_hand.build(project)
    settings = project / "params.yaml"
    line = "negatives: {encoder: vit,"
    settings.write_text(settings.read_text().replace(line, f"{line} text: {{encoder: {FOLDER}}},"))
    negatives.run(argparse.Namespace(params=settings))
    found = manifest.load(Path("negatives"), NegativesManifest)
    assert (found.text_encoder, found.text_weights) == (str(FOLDER), encoded([])[0].weights)


def test_tfidf_needs_no_torch() -> None:
    code = (
        "import sys; from contract.params import TextSelection; import data_pipeline.stages.negatives; "
        "from data_pipeline.negatives.text_vectors import identify, vectors; "
        "vectors(identify(TextSelection()), ['a dog'], 1, ''); "
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
