"""The tokenizer file: the same bytes in every process, and no unknown words."""

import subprocess
import sys
from pathlib import Path

import pytest

from contract.errors import ParamsError
from data_pipeline.tokenizer_file import CONTINUES, SPECIALS, build, load, to_bytes

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


def test_no_such_tokenizer() -> None:
    with pytest.raises(ParamsError, match=r"no tokenizer 'absent.json'"):
        load("absent.json")
