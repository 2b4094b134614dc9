"""Characters ↔ tokens, for the tokenizers that models use and for texts that people write."""

import unicodedata
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers_by_hand import TOKENIZERS

from contract.spans import NONE, Offsets, offsets_of, to_characters, to_tokens
from data_pipeline.texts import alignment
from data_pipeline.texts.alignment import align, encode
from data_pipeline.texts.audit import unknown_id

Span = tuple[int, int]
WORDS = ["a", "red", "dog", "Dog", "cat,", "dogs?", "café", "cafe\u0301", "İ", "I\u0307", "Straße", "x"]
ODD = ["😀", "👩‍🦰", "日本", "한국", "\u200b", "\x00", "\x9c", "¾", "ﬁ", "e\u0323\u0301", "-", "'s", "\ufeff"]
SPACES = ["", " ", "  ", "\n", "\t ", "\u00a0"]
TEXT = st.lists(st.sampled_from(WORDS + ODD + SPACES), max_size=8).map("".join)
each_tokenizer = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)


@st.composite
def spanned(draw: st.DrawFn) -> tuple[str, int, int]:
    """A text and a span of it, empty ones apart."""
    text = draw(TEXT.filter(bool) | st.text(min_size=1, max_size=12))
    start = draw(st.integers(0, len(text) - 1))
    return text, start, draw(st.integers(start + 1, len(text)))


def one(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[Span]]:
    encoding = tokenizer.encode(text, add_special_tokens=False)
    return encoding.ids, encoding.offsets


def found(offsets: list[Span], start: int, end: int) -> tuple[Span, Span]:
    """The tokens of one span of one text, and the characters that they reach."""
    start_N, end_N = np.array(offsets, np.int64).reshape(-1, 2).T
    flat = Offsets(start_N, end_N, np.array([0, len(offsets)]))
    tokens = to_tokens(flat, np.array([0]), np.array([start]), np.array([end]))
    return tuple(tokens[0].tolist()), tuple(to_characters(flat, np.array([0]), tokens)[0].tolist())


@each_tokenizer
@given(spanned())
@example(("a  dog", 3, 6))
@example((" dog", 1, 4))
@example(("\u202f\u0301x", 0, 3))
def test_the_tokens_of_a_span_are_those_that_hold_its_characters(
    tokenizer: Tokenizer, drawn: tuple[str, int, int]
) -> None:
    """The definition, in plain words; and that the library's offsets are ascending characters of the text."""
    text, start, end = drawn
    _, offsets = one(tokenizer, text)
    made = [(a, b) for a, b in offsets if b > a]
    assert all(a <= c and b <= d for (a, b), (c, d) in pairwise(made))
    assert all(0 <= a <= b <= len(text) for a, b in offsets)
    touching = [token for token, (a, b) in enumerate(offsets) if max(a, start) < min(b, end)]
    tokens, reach = found(offsets, start, end)
    assert tokens == ((touching[0], touching[-1] + 1) if touching else (NONE, NONE))
    assert reach == ((offsets[touching[0]][0], offsets[touching[-1]][1]) if touching else (NONE, NONE))


def plain(tokenizer: Tokenizer, text: str) -> str:
    """What the tokenizer keeps of a text: its normaliser's form without spaces and without what it drops."""
    normal = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
    return "".join(normal.split())


@each_tokenizer
@given(spanned())
@example(("the café", 4, 8))
@example(("the cafe\u0301 x", 4, 9))
@example(("İ dog", 0, 1))
@example(("İ dog", 2, 5))
@example(("a 😀dog", 2, 3))
@example(("a 😀dog", 3, 6))
@example(("two  red\ndogs?", 5, 13))
@example(("a\x00dog \u200bcat", 2, 10))
@example(("日本 dog", 1, 6))
@example(("0 dog##", 2, 7))
def test_decoding_the_tokens_of_a_span_gives_back_the_phrase(
    tokenizer: Tokenizer, drawn: tuple[str, int, int]
) -> None:
    """normalise(decode(tokens of the span)) == normalise(phrase), spaces apart, unless the audit counts it.

    Counted are: no tokens, a token that straddles the span's end, an unknown word. The one condition is that
    the span cuts no letter from its accents, in Unicode's eyes or in the normaliser's, which then makes
    something else of the phrase alone than of the phrase in its text.
    """
    text, start, end = drawn
    before, phrase, behind = text[:start], text[start:end], text[end:]
    assume(not any(unicodedata.combining(cut) for cut in (phrase[:1], behind[:1]) if cut))
    assume(plain(tokenizer, text) == "".join(plain(tokenizer, part) for part in (before, phrase, behind)))
    ids, offsets = one(tokenizer, text)
    (first, after), (reach_start, reach_end) = found(offsets, start, end)
    if first == NONE:
        assert not one(tokenizer, phrase)[0] or not plain(tokenizer, phrase)
        return
    outside = text[min(reach_start, start) : start] + text[end : max(reach_end, end)]
    assume(not outside.strip() and unknown_id(tokenizer) not in ids[first:after])
    said = tokenizer.decode(ids[first:after], skip_special_tokens=False)  # WordPiece joins by ##
    assert plain(tokenizer, said).replace("##", "") == plain(tokenizer, phrase).replace("##", "")


SHOWN = {  # tokenizer → text, phrase, the tokens of the phrase
    "WordPiece": [
        ("Two DOGS?", "DOGS", ["dogs"]),
        ("a café.", "café", ["cafe"]),
        ("near cafe\u0301", "cafe\u0301", ["cafe"]),
        ("a\x00 cat", "cat", ["cat"]),
        ("red cat,it", "cat", ["cat"]),
    ],
    "byte-level, trimmed": [
        ("a dog", "dog", ["Ġdog"]),
        ("a  dog", "dog", ["Ġdog"]),
        (" dog", "dog", ["Ġdog"]),
        ("a 😀", "😀", ["ð", "Ł", "ĺ", "Ģ"]),
        ("a\ndog.", "dog", ["dog"]),
    ],
    "byte-level, with spaces": [("a dog", "dog", ["Ġdog"]), ("a  dog", "dog", ["Ġdog"])],
    "CLIP": [
        ("A  Dog!", "Dog", ["dog</w>"]),
        ("a dogs' cat", "dogs", ["do", "g", "s</w>"]),
        ("İ cat", "İ", ["i</w>", "Ì", "ĩ</w>"]),
        ("😀 cat", "😀", ["ð", "Ł", "ĺ", "Ģ</w>"]),
    ],
}


@pytest.mark.parametrize(
    ("kind", "text", "phrase", "tokens"), [(kind, *row) for kind, rows in SHOWN.items() for row in rows]
)
def test_phrases_and_their_tokens(kind: str, text: str, phrase: str, tokens: list[str]) -> None:
    encoding = TOKENIZERS[kind].encode(text, add_special_tokens=False)
    start = text.index(phrase)
    (first, after), _ = found(encoding.offsets, start, start + len(phrase))
    assert encoding.tokens[first:after] == tokens


def test_tokens_without_characters_belong_to_no_span() -> None:
    offsets = [(0, 0), (0, 3), (3, 3), (4, 7), (0, 0)]
    assert found(offsets, 0, 3) == ((1, 2), (0, 3))
    assert found(offsets, 0, 7) == ((1, 4), (0, 7))
    assert found(offsets, 3, 4) == ((NONE, NONE), (NONE, NONE))
    assert found([], 0, 4) == ((NONE, NONE), (NONE, NONE))


@each_tokenizer
@given(rows=st.lists(spanned(), max_size=6))
def test_many_texts_are_as_one_by_one(tokenizer: Tokenizer, rows: list[tuple[str, int, int]]) -> None:
    encodings = tokenizer.encode_batch([text for text, _, _ in rows], add_special_tokens=False)
    flat = offsets_of(encodings)
    text_S, start_S, end_S = np.arange(len(rows)), *np.array([row[1:] for row in rows], int).reshape(-1, 2).T
    together = to_tokens(flat, text_S, start_S, end_S)
    alone = [
        found(encoding.offsets, start, end)[0]
        for encoding, (_, start, end) in zip(encodings, rows, strict=True)
    ]
    assert [tuple(tokens) for tokens in together.tolist()] == alone


@each_tokenizer
def test_slices_change_nothing(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any size of slice, spans in any order, texts with several spans and with none."""
    contents = pl.Series(["a red dog", "", "two cats?", "\u200b", "café dog"])
    spans = pl.DataFrame(
        {"row": [4, 0, 2, 0, 3, 4], "start": [0, 2, 4, 6, 0, 5], "end": [4, 5, 8, 9, 1, 8]},
        {"row": pl.UInt32, "start": pl.Int32, "end": pl.Int32},
    )
    tokens, placed = align(tokenizer, contents, spans)
    assert tokens.to_list() == [one(tokenizer, text)[0] for text in contents]
    assert encode(tokenizer, contents).to_list() == tokens.to_list()
    assert placed.select(spans.columns).equals(spans)
    for size in (1, 2, 3):
        monkeypatch.setattr(alignment, "SLICE", size)
        again, placed_again = align(tokenizer, contents, spans)
        assert again.equals(tokens) and placed_again.equals(placed)


def test_nothing_to_align() -> None:
    spans = pl.DataFrame(schema={"row": pl.UInt32, "start": pl.Int32, "end": pl.Int32})
    tokens, placed = align(TOKENIZERS["WordPiece"], pl.Series([], dtype=pl.String), spans)
    assert tokens.dtype == pl.List(pl.Int32) and placed.is_empty()
    assert placed.columns[-4:] == ["token_start", "token_end", "reach_start", "reach_end"]
