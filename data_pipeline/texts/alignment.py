"""Texts → token ids, and spans of characters → spans of tokens.

Texts are encoded a slice at a time: what the library returns for a text takes kilobytes, its ids do not.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from contract.spans import NONE, Ints, offsets_of, to_characters, to_tokens

SLICE = 1 << 14  # texts encoded at once
Ids = tuple[NDArray[np.int32], Ints]
PLACES = ("token_start", "token_end", "reach_start", "reach_end")


def encode(tokenizer: Tokenizer, contents: pl.Series) -> pl.Series:
    """Token ids of each text, without specials."""
    return _lists(
        [_ids(tokenizer.encode_batch_fast(part, add_special_tokens=False)) for part in _slices(contents)]
    )


def align(tokenizer: Tokenizer, contents: pl.Series, spans: pl.DataFrame) -> tuple[pl.Series, pl.DataFrame]:
    """(token ids of each text, without specials; the spans with their tokens).

    spans: `row` of the text in contents, `start` and `end` in characters. They gain `token_start` and
    `token_end`, and `reach_start` and `reach_end`, the characters that those tokens were made from; null
    where no token holds a character of the span.
    """
    ordered = spans.with_row_index("order").sort("row")
    span_S3 = ordered.select("row", "start", "end").cast(pl.Int64).to_numpy()
    ids: list[Ids] = []
    places: list[Ints] = []
    for number, part in enumerate(_slices(contents)):
        encodings = tokenizer.encode_batch(part, add_special_tokens=False)
        first = number * SLICE
        low, high = np.searchsorted(span_S3[:, 0], (first, first + SLICE))
        ids.append(_ids(encodings))
        places.append(_places(encodings, span_S3[low:high] - np.array((first, 0, 0))))
    columns = pl.DataFrame(np.concatenate(places), list(PLACES)).cast(pl.Int32)
    placed = ordered.hstack(columns.select(pl.all().replace(NONE, None)))
    return _lists(ids), placed.sort("order").drop("order")


def _slices(contents: pl.Series) -> Iterator[list[str]]:
    """At least one, if empty."""
    return (contents[begin : begin + SLICE].to_list() for begin in range(0, max(1, len(contents)), SLICE))


def _ids(encodings: list[Encoding]) -> Ids:
    """The ids of all texts in one row, and how many each has."""
    flat = chain.from_iterable(encoding.ids for encoding in encodings)
    return np.fromiter(flat, np.int32), np.fromiter(map(len, encodings), np.int64)


def _places(encodings: list[Encoding], span_S3: Ints) -> Ints:
    """Tokens and characters reached [S, 4] of spans (row of the encoding, start, end)."""
    rows, text_S = np.unique(span_S3[:, 0], return_inverse=True)
    offsets = offsets_of([encodings[row] for row in rows])
    tokens_S2 = to_tokens(offsets, text_S, span_S3[:, 1], span_S3[:, 2])
    return np.hstack([tokens_S2, to_characters(offsets, text_S, tokens_S2)])


def _lists(slices: Sequence[Ids]) -> pl.Series:
    """A column of lists of ids."""
    ids, lengths = (np.concatenate(part) for part in zip(*slices, strict=True))
    return pl.Series("tokens", pa.LargeListArray.from_arrays(np.append(0, np.cumsum(lengths)), ids))
