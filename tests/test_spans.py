"""Characters ↔ tokens."""

from hypothesis import given
from hypothesis import strategies as st

from contract.spans import to_characters, to_tokens
from data_pipeline.texts.tokenizer_file import build

TOKENIZER = build(["a red cat, two cats and the café near it"], 400)
TEXT = st.text("abc té,.\n\t ", min_size=1, max_size=40)


@given(TEXT, st.data())
def test_every_character_of_the_phrase_is_in_its_tokens(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    offsets = TOKENIZER.encode(text, add_special_tokens=False).offsets
    found = to_tokens(offsets, start, end)
    touching = [token for token, (a, b) in enumerate(offsets) if a < end and b > start and b > a]
    assert found == ((touching[0], touching[-1] + 1) if touching else None)
    if not text[start:end].strip():
        assert found is None


@given(TEXT)
def test_tokens_and_back(text: str) -> None:
    offsets = TOKENIZER.encode(text, add_special_tokens=False).offsets
    for token, (a, b) in enumerate(offsets):
        assert to_tokens(offsets, a, b) == (token, token + 1)
        assert to_characters(offsets, token, token + 1) == (a, b)


def test_tokens_without_characters_belong_to_no_span() -> None:
    offsets = [(0, 0), (0, 3), (3, 3), (4, 7), (0, 0)]
    assert to_tokens(offsets, 0, 3) == (1, 2)
    assert to_tokens(offsets, 0, 7) == (1, 4)
    assert to_tokens(offsets, 3, 4) is None
    assert to_characters(offsets, 0, 5) == (0, 7) and to_characters(offsets, 4, 5) is None
