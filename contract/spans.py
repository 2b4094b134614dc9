"""Characters ↔ tokens. Characters are the truth; token spans follow from the tokenizer's offsets.

All spans are half-open. Letters: T texts, N tokens of all texts, S spans.
"""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding

Ints = NDArray[np.int64]
NONE = -1


class Offsets(NamedTuple):
    """Per token, the characters of its text that it was made from; the tokens of all texts in one row.

    start_N, end_N: characters, ascending within a text; start == end for a token made from none.
    first_T: the first token of each text, and the number of all tokens at the end (T + 1 entries).
    """

    start_N: Ints
    end_N: Ints
    first_T: Ints


def offsets_of(encodings: Sequence[Encoding]) -> Offsets:
    """The offsets of texts as the tokenizers library gives them: characters of the text as it came."""
    first = np.cumsum([0, *map(len, encodings)], dtype=np.int64)
    pairs = chain.from_iterable(encoding.offsets for encoding in encodings)
    flat = np.fromiter(chain.from_iterable(pairs), np.int64, 2 * int(first[-1]))
    return Offsets(flat[::2], flat[1::2], first)


def to_tokens(offsets: Offsets, text_S: Ints, start_S: Ints, end_S: Ints) -> Ints:
    """The tokens [S, 2], counted within text_S, that hold a character of [start_S, end_S).

    (NONE, NONE) where no token does: the tokenizer may have dropped characters (spaces, control
    characters). A token that lies only partly inside is taken whole.
    """
    made_from = np.flatnonzero(offsets.end_N > offsets.start_N)
    stride = 1 + max(
        offsets.end_N.max(initial=0), end_S.max(initial=0)
    )  # all texts on one line of characters
    texts = np.repeat(np.arange(len(offsets.first_T) - 1), np.diff(offsets.first_T))[made_from]
    begins, ends = (texts * stride + edge[made_from] for edge in (offsets.start_N, offsets.end_N))
    first = np.searchsorted(ends, text_S * stride + start_S, "right")
    after = np.searchsorted(begins, text_S * stride + end_S, "left")
    tokens = np.full((len(text_S), 2), NONE)
    found = first < after
    within = offsets.first_T[text_S[found]]
    tokens[found, 0] = made_from[first[found]] - within
    tokens[found, 1] = made_from[after[found] - 1] + 1 - within
    return tokens


def to_characters(offsets: Offsets, text_S: Ints, tokens_S2: Ints) -> Ints:
    """The characters [S, 2] from the first to the last of the tokens that `to_tokens` found.

    They reach beyond the span where a token holds more than it, and fall short of it by what the tokenizer
    dropped. (NONE, NONE) where there are no tokens.
    """
    characters = np.full((len(text_S), 2), NONE)
    found = tokens_S2[:, 0] != NONE
    tokens = tokens_S2[found] + offsets.first_T[text_S[found], None]
    characters[found, 0] = offsets.start_N[tokens[:, 0]]
    characters[found, 1] = offsets.end_N[tokens[:, 1] - 1]
    return characters
