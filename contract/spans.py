"""Characters ↔ tokens. Characters are the truth; token spans follow from the tokenizer's offsets.

All spans are half-open. offsets: per token the characters [start, end) of the text it was made from,
ascending; a token made from no character has start == end.
"""

from collections.abc import Sequence

Span = tuple[int, int]


def to_tokens(offsets: Sequence[Span], start: int, end: int) -> Span | None:
    """The tokens that hold a character of [start, end); None when no token does.

    The tokenizer may have dropped characters (spaces, control characters); a phrase of nothing else has
    no tokens. A token that lies only partly inside is taken whole.
    """
    first = next((token for token, (a, b) in enumerate(offsets) if b > start and b > a), None)
    if first is None or offsets[first][0] >= end:
        return None
    last = first
    for token in range(first, len(offsets)):
        a, b = offsets[token]
        if a >= end:
            break
        if b > a:
            last = token
    return first, last + 1


def to_characters(offsets: Sequence[Span], start: int, end: int) -> Span | None:
    """The characters from the first to the last of tokens [start, end); None when they hold none."""
    held = [(a, b) for a, b in offsets[start:end] if b > a]
    return (held[0][0], held[-1][1]) if held else None
