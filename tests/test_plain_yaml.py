"""YAML is values of plain kinds, or one error that says where it is none."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from contract import plain_yaml
from contract.errors import ParamsError

TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
KEYS = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=4)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_written_is_read(value: Any) -> None:
    assert plain_yaml.parse(yaml.safe_dump(value), "here") == value


@given(TEXTS)
def test_any_text_is_values_or_one_error(text: str) -> None:
    try:
        plain_yaml.parse(text, "here")
    except ParamsError as error:
        assert error.where.startswith("here")


@pytest.mark.parametrize(
    ("content", "line", "key"),
    [
        ("seed: 1\nworkers: 2\nseed: 3\n", 3, "seed"),
        ("train:\n  inputs: {}\n  optim: {}\n  inputs: {grid: vit}\n", 4, "inputs"),
        ("a: &a {b: 1}\nc:\n  <<: *a\n  d: 1\n  d: 2\n", 5, "d"),
        ("a: 1\ntrue: 1\nTrue: 2\n", 3, "True"),
        ("1: a\n0x1: b\n", 2, "0x1"),
    ],
)
def test_a_key_that_stands_twice_is_refused(content: str, line: int, key: str) -> None:
    """One of the two would silently win."""
    with pytest.raises(
        ParamsError, match=rf"^here, line {line}: the key '{key}' stands twice.*\n.*leave one"
    ):
        plain_yaml.parse(content, "here")


def test_also_where_there_is_one_line() -> None:
    with pytest.raises(ParamsError, match="^--set a: the key 'vqa' stands twice"):
        plain_yaml.parse("{vqa: {}, vqa: {}}", "--set a")


@pytest.mark.parametrize(
    ("content", "meant"),
    [
        ("a: &a {b: 1, c: 2}\nd:\n  <<: *a\n  b: 3\n", {"b": 3, "c": 2}),
        ("a: &a {x: 1}\nb: {deep: &b {<<: *a, x: 2}}\nd: {<<: *b}\n", {"x": 2}),
        ("a: &a {x: 1}\nb: &b {y: 2}\nd: {<<: *a, <<: *b}\n", {"x": 1, "y": 2}),
        ('d: {1: a, "1": b}\n', {1: "a", "1": "b"}),
        ("a: &a [1]\nd: {x: *a, y: *a}\n", {"x": [1], "y": [1]}),
    ],
)
def test_merges_and_keys_of_two_kinds_are_no_repetition(content: str, meant: dict[Any, Any]) -> None:
    assert plain_yaml.parse(content, "here")["d"] == meant


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("? [a, b]\n: 1\n", "is not YAML: .*unhashable"),
        ("rate: 2026-99-99", "is not YAML: month"),
        ("best: 0x_", "is not YAML: "),
        ("batch: !!int x", "is not YAML: .*invalid literal"),
        ("batch: " + "9" * 5000, "is not YAML: .*5000 digits"),
        ("a: !!python/object/apply:os.getcwd []", "is not YAML: .*constructor"),
        ("[" * 3000, "is nested too deeply"),
        ("&x {vqa: *x}", r"is not YAML: \*x stands inside what it names"),
        ("a: &x [1, {b: *x}]", r"is not YAML: \*x stands inside what it names"),
        ("a: *x", "is not YAML: .*undefined alias"),
    ],
)
def test_what_cannot_be_made_of_it_is_one_error(content: str, said: str) -> None:
    with pytest.raises(ParamsError, match=f"^here: {said}"):
        plain_yaml.parse(content, "here")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"- 1", "does not hold a mapping\n +found: +list"),
        (b"", "does not hold a mapping\n +found: +NoneType"),
        (b"a: \xff", "is not"),
    ],
)
def test_a_file_holds_a_mapping(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(ParamsError, match=f"a.yaml: {said}"):
        plain_yaml.read(tmp_path / "a.yaml")
