"""Text encoders of transformers as the trunk's: BERT and CLIP, frozen and trained, in a run and out of it."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import statements
import synthetic
import synthetic_tasks
import tiny_text_encoders as tiny
import torch
import transformers
from test_fit import losses, stopped_run, train, weights
from tokenizers import Tokenizer

from contract.errors import MismatchError, ParamsError
from contract.record import Text
from training import evaluate, run
from training.batching.tokenising import tokenised
from training.config import Itc, TextModel
from training.fusion import registry
from training.fusion.registry import Shape
from training.heads.itc import ItcHead
from training.model.model import FusionModel
from training.optimizing import checkpoint
from training.predict import Encoded, single
from training.shards import open_shards
from training.stream import Stream
from training.trunk import pretrained_text, published
from training.trunk.picture import PictureEncoder
from training.trunk.trunk import Trunk

ENCODERS = {"bert": tiny.save_bert, "clip": tiny.save_clip}
COMMIT = "0" * 40
TEXTS = ["a red dog runs", "the cat", "", "horse on the big grass under the sun"]


@pytest.fixture(scope="module", params=ENCODERS)
def folder(request, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / request.param
    ENCODERS[request.param](path)
    return path


def settings(folder: Path, **more) -> TextModel:
    return TextModel(kind="hf", path=str(folder), **more)


def tokens(folder: Path, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    known = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = [known.encode(text, add_special_tokens=False).ids for text in texts]
    longest = max(map(len, ids))
    padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
    return padded, torch.arange(longest) < torch.tensor([[len(row)] for row in ids])


def reference(folder: Path, text: str) -> torch.Tensor:
    """[1+L,D] the encoder's summary and its words' states, of one text without padding."""
    ids = torch.tensor([Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids])
    if folder.name == "bert":
        states = transformers.BertModel.from_pretrained(folder).eval()(ids).last_hidden_state[0]
        return states[:-1]
    whole = transformers.CLIPModel.from_pretrained(folder).eval()
    states = whole.text_model(ids).last_hidden_state[0]
    return torch.cat([states[-1:], states[1:-1]])


@torch.no_grad()
def test_states_are_those_of_the_encoder_itself_whatever_lies_beside(folder):
    built = pretrained_text.build(settings(folder), 32, 20)
    built.project = torch.nn.Identity()
    states, mask = built(*tokens(folder, TEXTS))
    for text, found, real in zip(TEXTS, states, mask, strict=True):
        assert torch.allclose(found[real], reference(folder, text), atol=1e-5)


def test_frozen_it_gets_no_gradient_and_draws_no_dropout(folder):
    built = pretrained_text.build(settings(folder), 32, 20).train()
    first, second = (built(*tokens(folder, TEXTS))[0] for _ in range(2))
    assert torch.equal(first, second)
    first.sum().backward()
    assert all(parameter.grad is None for parameter in built.encoder.parameters())
    assert built.project.project.weight.grad is not None


def test_trained_it_gets_gradient(folder):
    built = pretrained_text.build(settings(folder, trained=True), 32, 20)
    built(*tokens(folder, TEXTS))[0].square().sum().backward()
    assert built.encoder.training
    grads = {name: parameter.grad for name, parameter in built.encoder.named_parameters()}
    assert all(grad is not None for name, grad in grads.items() if "layers.0" in name or "layer.0" in name)


def test_fresh_weights_are_a_choice(folder):
    torch.manual_seed(0)
    loaded = pretrained_text.build(settings(folder), 32, 20).encoder.state_dict()
    drawn = pretrained_text.build(settings(folder, random=True), 32, 20).encoder.state_dict()
    assert loaded.keys() == drawn.keys()
    assert any(not torch.equal(loaded[name], drawn[name]) for name in loaded)


def test_its_identity_is_that_of_its_files(folder, tmp_path):
    copy = tmp_path / folder.name
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert pretrained_text.fingerprint(settings(copy)) == pretrained_text.fingerprint(settings(folder))
    stored = bytearray((copy / "model.safetensors").read_bytes())
    stored[-1] ^= 1
    (copy / "model.safetensors").write_bytes(stored)
    assert pretrained_text.fingerprint(settings(copy)) != pretrained_text.fingerprint(settings(folder))
    without = [pretrained_text.fingerprint(settings(path, random=True)) for path in (copy, folder)]
    assert without[0] == without[1]


def test_spans_follow_the_characters_into_the_other_tokens(folder):
    known = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = Text("t", "phrase", "The  big dog", [7], [(5, 12), (1, 2)], [(0, 1), (0, 1)], [[0], [1]])
    other = tokenised(text, known)
    assert known.decode(other.tokens) == "the big dog"
    assert other.span_tokens == [(1, 3), (0, 1)]
    assert other.text == text.text


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), ParamsError, "holds no tokenizer.json"),
        (lambda folder: (folder / "config.json").unlink(), ParamsError, "holds no config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), ParamsError, "cannot be loaded"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), ParamsError, "cannot be loaded"),
        (lambda folder: (folder / "config.json").write_text("{"), ParamsError, "cannot be read"),
        (lambda folder: (folder / "tokenizer.json").write_text('{"a": 1}'), ParamsError, "cannot be read"),
        (lambda folder: _set(folder, "hidden_size", '"x"'), ParamsError, "cannot be read"),
        (lambda folder: _set(folder, "num_attention_heads", 3), ParamsError, "cannot be[\\s\\S]*multiple"),
        (lambda folder: _model_type(folder, "gpt2"), ParamsError, "no text encoder that is known[^$]*gpt2"),
        (lambda folder: _more_words(folder), ParamsError, "not the tokenizer of this encoder"),
        (lambda folder: _one_layer_more(folder), MismatchError, "its weights lack"),
    ],
)
def test_a_folder_that_is_no_encoder_is_said(folder, tmp_path, change, error, message):
    copy = tmp_path / folder.name
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    change(copy)
    with pytest.raises(error, match=message):
        pretrained_text.build(settings(copy), 32, 20)


@pytest.mark.parametrize(("field", "value"), [("num_attention_heads", 3), ("hidden_act", '"none"')])
def test_a_configuration_that_describes_nothing_is_said_without_its_weights_too(
    folder, tmp_path, field, value
):
    copy = shutil.copytree(folder, tmp_path / folder.name)
    _set(copy, field, value)
    with pytest.raises(ParamsError, match=r"config\.json: (describes no encoder|cannot be read)"):
        pretrained_text.build(settings(copy, random=True), 32, 20)


def test_what_a_published_tokenizer_cuts_and_pads_by_itself_it_does_not_here(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / folder.name)
    path = str(copy / "tokenizer.json")
    known = Tokenizer.from_file(path)
    known.enable_truncation(8)
    known.enable_padding(length=16)
    known.save(path)
    text = "a red dog runs in the big sun on the grass under the sun"
    ids = pretrained_text.tokenizer(settings(copy)).encode(text, add_special_tokens=False).ids
    assert ids == pretrained_text.tokenizer(settings(folder)).encode(text, add_special_tokens=False).ids
    assert len(ids) == len(text.split())
    assert pretrained_text.build(settings(copy), 32, 20)


@pytest.fixture
def hub(folder, tmp_path, monkeypatch) -> str:
    """The name of a model that lies in the hub's cache; nothing outside is reached."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    published._fetched.cache_clear()
    model = tmp_path / f"hub/models--someone--{folder.name}"
    shutil.copytree(folder, model / "snapshots" / COMMIT)
    (model / "refs").mkdir()
    (model / "refs/main").write_text(COMMIT)
    return f"someone/{folder.name}"


def test_by_its_name_on_the_hub_it_is_the_same_as_by_its_folder(folder, hub):
    named = TextModel(kind="hf", path=hub)
    assert pretrained_text.fingerprint(named) == pretrained_text.fingerprint(settings(folder))
    built, expected = (pretrained_text.build(one, 32, 20).encoder for one in (named, settings(folder)))
    stored = expected.state_dict()
    assert all(torch.equal(value, stored[name]) for name, value in built.state_dict().items())


@pytest.mark.parametrize("name", ["someone/else", "../bert", "a/b/c", "/nowhere/bert"])
def test_a_name_that_is_no_folder_and_cannot_be_fetched_is_said(hub, name):
    with pytest.raises(ParamsError, match=r"is no folder, and no model could be fetched[\s\S]*" + name):
        pretrained_text.build(TextModel(kind="hf", path=name), 32, 20)


def test_a_folder_of_weights_that_is_missing_is_not_looked_for_on_the_hub(monkeypatch):
    def fetched(name):
        raise AssertionError(name)

    monkeypatch.setattr(published, "_fetched", fetched)
    with pytest.raises(ParamsError, match="no such folder"):
        pretrained_text.build(TextModel(kind="hf", path="weights/brt"), 32, 20)


def test_recomputed_it_keeps_less_and_its_gradients_are_equal(folder):
    def gradients(recomputed: bool) -> tuple[list[torch.Tensor], int]:
        torch.manual_seed(0)  # of the projection and the dropout
        built = pretrained_text.build(settings(folder, trained=True), 32, 20, recomputed)
        with kept() as held:
            loss = built(*tokens(folder, TEXTS))[0].square().sum()
        return torch.autograd.grad(loss, [built.project.project.weight, *used(built)]), sum(held.values())

    (plain, held), (again, fewer) = gradients(False), gradients(True)
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))
    assert fewer < held / 2


def used(built: pretrained_text.PretrainedText) -> list[torch.Tensor]:
    """Weights of the first layer."""
    named = built.encoder.named_parameters()
    return [parameter for name, parameter in named if "layers.0." in name or "layer.0." in name]


@contextmanager
def kept() -> Iterator[dict[int, int]]:
    """Bytes that the graph of a forward pass holds on to, by their place."""
    held: dict[int, int] = {}

    def note(tensor):
        held[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield held


def _set(folder: Path, field: str, value: object) -> None:
    path = folder / "config.json"
    path.write_text(re.sub(rf'"{field}": [^,\n]+', f'"{field}": {value}', path.read_text()))


def _model_type(folder: Path, name: str) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace(f'"model_type": "{folder.name}"', f'"model_type": "{name}"'))


def _more_words(folder: Path) -> None:
    known = Tokenizer.from_file(str(folder / "tokenizer.json"))
    known.add_tokens(["zebra", "okapi"])
    known.save(str(folder / "tokenizer.json"))


def _one_layer_more(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))


def test_texts_longer_than_it_takes_are_refused(folder):
    with pytest.raises(ParamsError, match=r"train\.model\.max_tokens: is more[\s\S]*at most 38"):
        pretrained_text.build(settings(folder), 32, 39)


@pytest.fixture
def world(tmp_path, monkeypatch, folder) -> list[str]:
    """Shards, and the settings of a run over them with this encoder frozen."""
    synthetic.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    return ["model.max_tokens=20", f"model.text={{kind: hf, path: {folder}}}"]


def test_a_run_with_it_goes_on_is_scored_and_keeps_what_it_needs(world, folder, monkeypatch):
    train("--run", "runs/whole", "--set", *world)
    stopped_run(monkeypatch, "runs/killed", 3, *world)
    train("--resume", "runs/killed")
    assert losses(Path("runs/killed")) == losses(Path("runs/whole"))
    assert weights(Path("runs/killed")) == weights(Path("runs/whole"))
    away = folder.rename(folder.with_name("away"))
    try:
        evaluate.main(["--run", "runs/whole"])
        asked = single(run.open_run(Path("runs/whole")), Encoded({}, {}), "the red dog", "vqa")
        assert asked.tokens.tolist() == tokens(Path("runs/whole/text"), ["the red dog"])[0].tolist()
    finally:
        away.rename(folder)


def test_a_blind_model_with_another_encoder_is_refused(world):
    """It would be asked in the tokens of the run's."""
    train("--run", "runs/a", "--set", *world, "optim.epochs=0.2")
    train("--run", "runs/blind", "--blind", "--set", "optim.epochs=0.2")
    with pytest.raises(ParamsError, match=r"runs/blind: has another text encoder than runs/a"):
        evaluate.main(["--run", "runs/a", "--blind", "runs/blind"])


def test_a_run_does_not_go_on_with_another_encoder(world, folder, monkeypatch):
    stopped_run(monkeypatch, "runs/a", 3, *world)
    path = folder / "model.safetensors"
    stored = path.read_bytes()
    try:
        path.write_bytes(stored[:-1] + bytes([stored[-1] ^ 1]))
        with pytest.raises(MismatchError, match=r"model\.text"):
            train("--resume", "runs/a")
    finally:
        path.write_bytes(stored)


def test_frozen_weights_are_the_same_after_training_and_trained_ones_are_not(world, folder):
    train("--run", "runs/frozen", "--set", *world)
    train("--run", "runs/trained", "--set", *world, "model.text.trained=true")
    fresh = pretrained_text.build(settings(folder), 32, 20).state_dict()
    for name, same in (("frozen", True), ("trained", False)):
        stored = checkpoint.find(Path(f"runs/{name}"), "last")
        model = run.trained_model(run.open_run(Path(f"runs/{name}")), "last")
        assert stored.is_dir()
        kept = [torch.equal(v, fresh[k]) for k, v in model.trunk.text.state_dict().items() if "encoder" in k]
        assert all(kept) == same


@pytest.mark.parametrize("trained", [False, True])
def test_a_momentum_encoder_has_a_copy_of_it_only_where_it_can_differ(folder, trained):
    text = pretrained_text.build(settings(folder, trained=trained), 32, 20)
    picture = PictureEncoder([], 32, registry.kind("none"), Shape(32, 2, 0.0, 0.0, 1, 0, 1))
    made = FusionModel(Trunk(text, picture, None), {"itc": ItcHead(32, False, Itc())}, momentum=0.9)
    slow = made.momentum_encoder
    copies = [name for name in slow.state_dict() if "text.encoder" in name]
    assert len(copies) == (len(text.encoder.state_dict()) if trained else 0)
    assert any("text.project" in name for name in slow.state_dict())
    with torch.no_grad():
        text.project.project.weight.add_(1)
    slow.follow(made.trunk, made.itc, 0)
    found, expected = (one.eval()(*tokens(folder, TEXTS))[0] for one in (slow.trunk.text, text))
    assert torch.equal(found, expected)


def test_a_run_with_a_frozen_one_and_a_momentum_encoder_goes_on(tmp_path, monkeypatch, folder):
    statements.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    text = f"model.text={{kind: hf, path: {folder}}}"
    command = [text, "model.max_tokens=20", "tasks={itc: {momentum: 0.9}}"]
    train("--run", "runs/whole", "--set", *command)
    stopped_run(monkeypatch, "runs/killed", 3, *command)
    train("--resume", "runs/killed")
    assert weights(Path("runs/killed")) == weights(Path("runs/whole"))
    stored = "\n".join(weights(Path("runs/whole")))
    assert "momentum_encoder.trunk.text.project" in stored
    assert "momentum_encoder.trunk.text.encoder" not in stored


def test_given_negatives_and_spans_come_in_its_tokens_too(tmp_path, folder):
    synthetic.build(tmp_path, change=synthetic_tasks.with_phrases)
    shards = open_shards([str(tmp_path / "data")], columns=[])
    known = Tokenizer.from_file(str(folder / "tokenizer.json"))
    stream = Stream(shards, ["region"], batch=4, text_negatives=3, tokenizer=known)
    batch = next(iter(stream))
    stream.close()
    assert len(batch.tokens) > len(batch.rows["region"])  # with what the dataset gives as false
    unknown = known.token_to_id("[UNK]")
    assert batch.tokens[batch.token_mask].unique().tolist() == [unknown]  # it knows no "left", nor "top"


@pytest.mark.parametrize("text", ["{kind: hf}", "{path: weights/x}"])
def test_kind_and_path_go_together(tmp_path, monkeypatch, text):
    synthetic.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError, match="kind hf needs a path"):
        train("--run", "runs/a", "--set", f"model.text={text}")
