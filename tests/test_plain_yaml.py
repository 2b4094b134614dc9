"""YAML is values of plain kinds, or one error that says where it is none."""

import math
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from contract import plain_yaml
from contract.errors import ParamsError

TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
WORDS = st.text(st.characters(codec="utf-8"))
KEYS = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=4)
# PyYAML takes `1e3`, `0o7` and `09` for texts, and leaves the quotes out.
UNQUOTED = re.compile(r"[-+._0-9]+([eE][-+_0-9]+)?|[-+]?0o[0-7_]+")
SYNTAX = st.text("{}[]<>!&*|?:,-#'\"% \n0aexn~._", max_size=30)
IN_QUOTES = r"\n +fix: +put the text into quotes$"
MERGING = r"\n +fix: +write '<<: \*name' to take the keys of a mapping; put a text into quotes$"
NO_NUMBER = (
    r"holds a whole number that cannot be used\n +found: +.*\n +expected: +at most 1000 bits"
    r"\n +fix: +a smaller number; put a text into quotes$"
)
LIST_KEY = r"a list or a mapping is a key\n +fix: +write a text or a number; put one with braces into quotes$"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
BOMB = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise(LETTERS))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**1000) + 1, 2**1000 - 1)
    | st.floats(allow_nan=False)
    | WORDS.filter(lambda text: not UNQUOTED.fullmatch(text)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYS.filter(lambda text: not UNQUOTED.fullmatch(text)), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_written_is_read(value: Any) -> None:
    assert plain_yaml.parse(yaml.safe_dump(value), "here") == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_as_python_writes_it_is_that_float(value: float) -> None:
    assert_read(repr(value), value)


@given(st.floats(-1, 1, exclude_min=True, exclude_max=True))
def test_a_float_needs_no_digit_before_its_dot(value: float) -> None:
    assert_read(f"{value:.3f}".replace("0.", "."), float(f"{value:.3f}"))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        *((text, float(text)) for text in ("-.5", "+.5", ".5", ".5e3", "-.5E-3", "1.", "-1.", "+1.5")),
        *((text, float(text)) for text in ("1.e3", "-1.e+3", "1e3", "1e-12", "1E3", "-1e3", "08.5", "08e1")),
        *((text, int(text)) for text in ("1", "-1", "+1", "0", "1000000", "08", "010", "-010")),
        *(
            ("0o17", 15),
            ("0x1F", 31),
            (".inf", math.inf),
            ("-.INF", -math.inf),
            ("true", True),
            ("FALSE", False),
        ),
        *((text, None) for text in ("~", "null", "NULL")),
        *((text, text) for text in ("on", "off", "yes", "no", "y", "N", "tRUE", "nUll")),
        *(("0b11", 3), ("-0x1", -1), ("1_000", 1000), ("0.000_1", 0.0001), ("1_0.5e1", 105.0)),
        *((text, text) for text in ("1:30", "190:20:30.5", "_1", "0x_", "0o8", "0b2", "=")),
        *((text, text) for text in ("1.2.3", ".", "+", "-.", "+.", ".e3", "-.e3", "e5", "1e", "1e+")),
        *((text, text) for text in ("2017-01-01", "1.5 m", "1e3x", "--1", "-+.5", "v1.5", "1,5")),
    ],
)
def test_a_word_is_read_as_by_version_1_2(text: str, meant: object) -> None:
    assert_read(text, meant)


def assert_read(text: str, meant: object) -> None:
    """It is read as this, and of this kind, as a value and as a key."""
    for found in (plain_yaml.parse(text, "here"), *plain_yaml.parse(f"{text}: a", "here")):
        assert found == meant and type(found) is type(meant)


def plain(value: Any) -> bool:
    """Of the kinds that the module promises, all the way down."""
    if isinstance(value, dict):
        return all(map(plain, (*value, *value.values())))
    return all(map(plain, value)) if isinstance(value, list) else isinstance(value, str | int | float | None)


@settings(max_examples=500)
@given(TEXTS | SYNTAX)
def test_any_text_is_plain_values_or_one_error(text: str) -> None:
    try:
        assert plain(plain_yaml.parse(text, "here"))
    except ParamsError as error:
        assert error.where.startswith("here")


def test_what_is_named_again_is_another(tmp_path: Path) -> None:
    found = plain_yaml.parse("a: &a {b: [1]}\nc: *a\nd: {<<: *a}\n", "here")
    found["a"]["b"].append(2)
    assert found == {"a": {"b": [1, 2]}, "c": {"b": [1]}, "d": {"b": [1]}}


def test_a_date_is_a_text() -> None:
    assert plain_yaml.parse("a: 2026-11-29\nb: 2026-99-99", "here") == {"a": "2026-11-29", "b": "2026-99-99"}


@pytest.mark.parametrize(
    ("content", "line", "key"),
    [
        ("seed: 1\nworkers: 2\nseed: 3\n", 3, "seed"),
        ("train:\n  inputs: {}\n  optim: {}\n  inputs: {grid: vit}\n", 4, "inputs"),
        ("a: &a {b: 1}\nc:\n  <<: *a\n  d: 1\n  d: 2\n", 5, "d"),
        ("&k a: 1\nb: 2\na: 2\n", 3, "a"),
        ("&k a: 1\nb: 2\n*k : 2\n", 3, "a"),
        ("a: &k x\nb:\n  x: 1\n  *k : 2\n", 4, "x"),
    ],
)
def test_a_key_that_stands_twice_is_refused(content: str, line: int, key: str) -> None:
    """One of the two would silently win."""
    with pytest.raises(
        ParamsError, match=rf"^here, line {line}: the key '{key}' stands twice.*\n.*leave one"
    ):
        plain_yaml.parse(content, "here")


@pytest.mark.parametrize(
    ("content", "line", "keys"),
    [
        ("a: 1\ntrue: 1\nTrue: 2\n", 3, "'true' and 'True'"),
        ("1: a\n0x1: b\n", 2, "'1' and '0x1'"),
        ("true: 1\nb: 2\n1: 2\n", 3, "'true' and '1'"),
        ("&k 1: a\nb: 2\nc:\n  1.0: x\n  *k : y\n", 5, "'1.0' and '1'"),
        ("~: 1\nnull: 2\n", 2, "'~' and 'null'"),
    ],
)
def test_keys_that_python_does_not_tell_apart_are_refused(content: str, line: int, keys: str) -> None:
    said = rf"^here, line {line}: the keys {keys} are one to Python.*\n +fix: +leave one.* quotes"
    with pytest.raises(ParamsError, match=said):
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
        *((f"a: 1\n{key}: 1\n", f"line 2: {LIST_KEY}") for key in ("? [a, b]\n", "{a: 1}", "[]", "{{b}}")),
        ("a: &a [1]\nb: 2\n*a : 3", f"line 3: {LIST_KEY}"),
        ("{{image}}", LIST_KEY),
        *(
            (f"a: {tag} {value}", rf"the tag {tag} is not taken\n +fix: +leave it out$")
            for tag in ("!!int", "!!float", "!!bool", "!!timestamp", "!!seq", "!!set", "!!omap", "!!binary")
            for value in ("x", "''", "{a: 1}")
        ),
        ("a: !!str 2017", rf"the tag !!str is not taken{IN_QUOTES}"),
        ("a: 1\nb: ! 2017", rf"line 2: the tag ! is not taken{IN_QUOTES}"),
        ("? !!map {a: 1}\n: 1", "line 1: the tag"),
        ("a: !!python/object/apply:os.getcwd []", "the tag !!python/object/apply:os.getcwd is not taken"),
        ("a: !mine b", "the tag !mine is not taken"),
        ("&x {vqa: *x}", r"\*x stands inside what it names\n +fix: +take it out$"),
        ("a:\n  &x [1, {b: *x}]", r"line 2: \*x stands inside what it names"),
        ("a: 1\nkey: <<", f"line 2: '<<' stands in the place of a value{MERGING}"),
        ("[a, <<]", f"'<<' stands in the place of a value{MERGING}"),
        ("<<", f"'<<' stands in the place of a value{MERGING}"),
        ("&m <<: {a: 1}\nb: *m", f"line 2: '<<' stands in the place of a value{MERGING}"),
        *((f"a: 1\n<<: {of}", f"line 2: '<<' is given no mapping{MERGING}") for of in ("1", "", "[1]")),
        ("a: &a [1]\nb:\n  <<: *a", f"line 3: '<<' is given no mapping{MERGING}"),
        ("a: {<<: [{b: 1}, 2]}", f"'<<' is given no mapping{MERGING}"),
        ("a: *x", "is not YAML: .*undefined alias"),
    ],
)
def test_what_cannot_be_made_of_it_is_one_error(content: str, said: str) -> None:
    with pytest.raises(ParamsError, match=f"^here[:,] {said}"):
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


def test_an_equals_sign_is_a_text() -> None:
    assert plain_yaml.parse("a: =\n=: [=]\nb: {=: 1}", "here") == {"a": "=", "=": ["="], "b": {"=": 1}}


def test_quotes_make_a_text_of_what_merges() -> None:
    assert plain_yaml.parse("'<<': '<<'", "here") == {"<<": "<<"}


def values(count: int) -> str:
    """So many: the list, a thousand that are named again and again, and single ones."""
    again, single = divmod(count - 1, 1000)
    return f"[&a [{'x, ' * 999}], {'*a, ' * (again - 1)}{'x, ' * single}]"


def merged(count: int) -> str:
    """`<<` names so many keys, though no more than a thousand that differ."""
    again, single = divmod(count, 1000)
    thousand, few = (", ".join(f"k{number}: 1" for number in range(most)) for most in (1000, single))
    return f"[&a {{{thousand}}}, &b {{{few}}}, {{<<: [{'*a, ' * again} *b]}}]"


def nested(levels: int) -> str:
    """So many lists and mappings in each other, by turns."""
    pairs, single = divmod(levels, 2)
    return "[" * single + "{a: [" * pairs + "x" + "]}" * pairs + "]" * single


def named(levels: int) -> str:
    """The same where each is written on its own."""
    return "- &m2 [x]\n" + "".join(f"- &m{level} [*m{level - 1}]\n" for level in range(3, levels + 1))


MANY = r"holds too many values\n +expected: +at most 1,000,000, .*\n +fix: +"
DEEP = r"is nested too deeply\n +expected: +at most 100 lists and mappings in each other\n +fix: +"
LIMITS: list[tuple[Callable[[int], str], int, str]] = [
    (
        lambda count: "x" * count,
        4_000_000,
        r"is too long\n +found: +4,000,001 characters\n +expected: +at most 4,000,000\n +fix: +",
    ),
    (values, 1_000_000, MANY),
    (merged, 1_000_000, MANY),
    (nested, 100, DEEP),
    (named, 100, DEEP),
]


@pytest.mark.parametrize(("of", "most", "said"), LIMITS)
def test_up_to_a_limit_all_is_read_and_beyond_it_nothing(
    of: Callable[[int], str], most: int, said: str
) -> None:
    assert plain_yaml.parse(of(most), "here")
    with pytest.raises(ParamsError, match=f"^here: {said}"):
        plain_yaml.parse(of(most + 1), "here")


@pytest.mark.parametrize(("text", "said"), [(BOMB, MANY), ("[" * 3000, DEEP), (named(2000), DEEP)])
def test_far_beyond_it_too(text: str, said: str) -> None:
    with pytest.raises(ParamsError, match=f"^here: {said}"):
        plain_yaml.parse(text, "here")


def test_a_text_that_is_too_long_is_not_looked_at() -> None:
    with pytest.raises(ParamsError, match="^here: is too long"):
        plain_yaml.parse("}" * 4_000_001, "here")


@pytest.mark.parametrize("written", ["{}", "-{}", "{:#x}", "{:#o}", "[{}]", "{{{}: 1}}"])
def test_whole_numbers_are_of_at_most_1000_bits(written: str) -> None:
    most, beyond = 2**1000 - 1, 2**1000
    assert str(most) in str(plain_yaml.parse(written.format(most), "here"))
    with pytest.raises(ParamsError, match=f"^here: {NO_NUMBER}"):
        plain_yaml.parse(written.format(beyond), "here")


@pytest.mark.parametrize("value", ["9" * 5000, "-" + "9" * 5000, "0x" + "f" * 5000])
def test_a_whole_number_beyond_that_is_refused_where_it_stands(value: str) -> None:
    with pytest.raises(ParamsError, match=rf"^here, line 2: {NO_NUMBER.replace('.*', f'{value[:40]}…')}"):
        plain_yaml.parse(f"a: 1\nbest: {value}", "here")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "{grid: vit",
            "here: is not YAML: expected ',' or '}', but got '<stream end>', at column 11\n +f",
        ),
        (
            "a: {x: 1\nb: 2",
            "here, line 2: .* but got ':', at column 2; what is open began in line 1\n +fix",
        ),
        ("a: 1\nb: @x", r"here, line 2: is not YAML: found character '@'.*, at column 4\n +fix: "),
        ("a: 1\nb: 'open\nc: 3\n", r"here, line 4: .*, at column 1; what is open began in line 2\n +fix: "),
        ("a: \x00", r"here: is not YAML: unacceptable character #x0000: [^\n]*$"),
    ],
)
def test_what_is_no_yaml_is_told_by_its_line_and_column(text: str, said: str) -> None:
    with pytest.raises(ParamsError, match=f"^{said}"):
        plain_yaml.parse(text, "here")


def test_mappings_that_merge_two_do_not_double() -> None:
    """Of 40 levels no end would come."""
    levels = "".join(f"k{n}: &m{n} {{<<: [*m{n - 1}, *m{n - 1}]}}\n" for n in range(1, 40))
    assert plain_yaml.parse(f"a: &m0 {{x: 1}}\n{levels}", "here")["k39"] == {"x": 1}


def test_a_merge_takes_the_first_of_several_and_its_own_before_them() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {x: 2, z: 2}\nc: {<<: [*a, *b], y: 3}"
    assert plain_yaml.parse(text, "here")["c"] == {"x": 1, "z": 2, "y": 3}


@pytest.mark.parametrize(
    "text",
    [
        r'"\UFFFFFFFF"',
        r'{grid: "\ud800"}',
        r'{"\udfff": 1}',
    ],
)
def test_what_python_cannot_hold_or_write_is_one_error(text: str) -> None:
    with pytest.raises(ParamsError, match="here"):
        plain_yaml.parse(text, "here")
