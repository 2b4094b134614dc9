"""Texts → tokens while training, where those of the shard do not serve: other words, or another tokenizer."""

import numpy as np
from msgspec import structs
from tokenizers import Tokenizer

from contract.record import Text
from contract.spans import NONE, offsets_of, to_tokens


def tokenised(text: Text, tokenizer: Tokenizer) -> Text:
    """The text with this tokenizer's tokens (specials excluded) and the token spans of its characters.

    A span of which the tokenizer leaves nothing is left out.
    """
    encoding = tokenizer.encode(text.text, add_special_tokens=False)
    starts, ends = np.array(text.span_chars, np.int64).reshape(-1, 2).T
    spans = to_tokens(offsets_of([encoding]), np.zeros(len(starts), np.int64), starts, ends).tolist()
    kept = [place for place, (start, _) in enumerate(spans) if start != NONE]
    return structs.replace(
        text,
        tokens=encoding.ids,
        span_tokens=[(spans[place][0], spans[place][1]) for place in kept],
        span_chars=[text.span_chars[place] for place in kept],
        span_regions=[text.span_regions[place] for place in kept],
    )
