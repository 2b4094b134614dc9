"""The tokenizer file: the same bytes in every process, and no unknown words."""

import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from contract.errors import ParamsError
from data_pipeline.texts.tokenizer_file import CONTINUES, SPECIALS, build, load, to_bytes

ROOT = Path(__file__).parents[1]
TEXTS = ["The red ball, and the blue ball.", "Is it red?", "façade naïve ¾"]


def test_two_processes_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    made = []
    for number in range(2):
        out = tmp_path / f"{number}.json"
        command = [
            sys.executable,
            "-m",
            "data_pipeline",
            "tokenizer",
            str(tmp_path / "texts.txt"),
            "--out",
            str(out),
        ]
        subprocess.run(
            command, cwd=ROOT, check=True, capture_output=True, env={"PYTHONHASHSEED": str(number)}
        )
        made.append(out.read_bytes())
    assert made[0] == made[1] == to_bytes(build(TEXTS, 8192))


def test_order_and_specials(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_bytes(to_bytes(build(TEXTS, 8192)))
    tokenizer = load(str(tmp_path / "t.json"))
    assert [tokenizer.token_to_id(name) for name in SPECIALS] == [0, 1, 2, 3, 4]
    words = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    whole = [word for word, _ in words[5:] if len(word) > 1 and not word.startswith(CONTINUES)]
    assert whole[:3] == ["ball", "red", "the"]
    assert tokenizer.encode("The RED ball", add_special_tokens=False).tokens == ["the", "red", "ball"]


def test_unknown_words_fall_into_characters() -> None:
    tokenizer = build(TEXTS, 0)
    assert tokenizer.encode("zebra red!", add_special_tokens=False).tokens[:3] == ["z", "##e", "##b"]
    assert all("[UNK]" not in tokenizer.encode(text).tokens for text in TEXTS)


def test_every_text_gets_its_own_tokens_and_all_of_them(tmp_path: Path) -> None:
    """Padding and truncation that a file brings along are off."""
    made = build(TEXTS, 8192)
    made.enable_padding(length=20)
    made.enable_truncation(3)
    made.save(str(tmp_path / "t.json"))
    loaded = load(str(tmp_path / "t.json"))
    (found, _) = loaded.encode_batch([TEXTS[0], "Is it red?"], add_special_tokens=False)
    assert loaded.decode(found.ids) == "the red ball, and the blue ball."
    assert to_bytes(loaded) == to_bytes(build(TEXTS, 8192))


def test_models_of_other_kinds_have_a_file_too() -> None:
    pieces = [("<unk>", 0.0), ("b", -1.0), ("a", -2.0)]
    content = to_bytes(Tokenizer(models.Unigram(pieces, 0)))
    assert Tokenizer.from_buffer(content).get_vocab() == {"<unk>": 0, "b": 1, "a": 2}


@pytest.mark.parametrize("name", ["absent.json", "bert-base-uncased"])
def test_no_such_tokenizer(name: str) -> None:
    """A hub name is no file: what DVC cannot see change must not shape the tokens."""
    with pytest.raises(ParamsError, match=rf"no tokenizer '{name}'") as caught:
        load(name)
    assert "fetches one from the hub" in str(caught.value.fix)


def test_a_file_that_is_no_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(ParamsError, match="is no tokenizer"):
        load(str(tmp_path / "t.json"))
