"""What became of texts and spans on the way through the tokenizer.

What a model would not see as it is written is a finding; what every text of a tokenizer has in common (its
case folded, the space before a word inside its token) is only counted.
"""

import json
from typing import NamedTuple

import polars as pl
from tokenizers import Tokenizer

from data_pipeline.validation.rules import Rule

SPECIALS = 2  # around a text, of a model's length

TOKENS, TOKEN_START, TOKEN_END = pl.col("tokens"), pl.col("token_start"), pl.col("token_end")
CONTENT, START, END = pl.col("content"), pl.col("start"), pl.col("end")
BEFORE = CONTENT.str.slice(pl.col("reach_start"), (START - pl.col("reach_start")).clip(0))
BEHIND = CONTENT.str.slice(END, (pl.col("reach_end") - END).clip(0))
PHRASE = CONTENT.str.slice(START, END - START)
OF_SPAN = TOKENS.list.slice(TOKEN_START, TOKEN_END - TOKEN_START)


class Model(NamedTuple):
    """What the audit asks of the model that reads the texts, and of its tokenizer."""

    room: int  # tokens of a text that it reads, specials apart
    unknown: int | None  # the token that stands for what the vocabulary lacks, if there is one
    spaced: list[int]  # tokens that begin with a space: byte-level vocabularies join it to the word
    folds_case: bool  # capitals are lowered before the text is split


def model_of(tokenizer: Tokenizer, length: int) -> Model:
    """length: see params.Tokenizer."""
    ids = range(tokenizer.get_vocab_size())
    spaced = [token for token in ids if tokenizer.decode([token], skip_special_tokens=False)[:1].isspace()]
    normalizer = tokenizer.normalizer
    folds_case = normalizer is not None and normalizer.normalize_str("A") == "a"
    return Model(length - SPECIALS, unknown_id(tokenizer), spaced, folds_case)


def unknown_id(tokenizer: Tokenizer) -> int | None:
    """WordPiece and BPE name the token, Unigram numbers it."""
    model = json.loads(tokenizer.to_str())["model"]
    word = model.get("unk_token")
    return tokenizer.token_to_id(word) if word else model.get("unk_id")


def marked_texts(texts: pl.DataFrame, model: Model) -> pl.DataFrame:
    """Texts with `tokens` gain the columns `truncated` and `unknown`."""
    unknown = TOKENS.list.contains(pl.lit(model.unknown, pl.Int32))
    return texts.with_columns(truncated=TOKENS.list.len() > model.room, unknown=unknown)


def marked_spans(spans: pl.DataFrame, texts: pl.DataFrame, model: Model) -> pl.DataFrame:
    """Aligned spans, their `row` that of their text, gain a column for each thing that is counted.

    truncated: some of its tokens lie beyond what the model reads. straddles: its first or last token holds
    more of the text than the span and the spaces at its ends. unknown: holds the token for unknown words.
    case_folded: the tokenizer lowers its capitals. leading_space: its first token begins with a space.
    """
    joined = spans.hstack(texts.select("content", "tokens")[spans["row"]])
    marked = joined.with_columns(
        truncated=pl.col("token_end") > model.room,
        straddles=(BEFORE + BEHIND).str.strip_chars() != "",
        unknown=OF_SPAN.list.contains(pl.lit(model.unknown, pl.Int32)),
        case_folded=pl.lit(model.folds_case) & PHRASE.ne(PHRASE.str.to_lowercase()),
        leading_space=OF_SPAN.list.first().is_in(model.spaced),
    )
    return marked.drop("content", "tokens")


TEXT_RULES = [
    Rule("text_no_tokens", "reject", TOKENS.list.len() == 0),
    Rule("text_truncated", "flag", pl.col("truncated"), pl.format("{} tokens", TOKENS.list.len())),
]
SPAN_RULES = [
    Rule("text_rejected", "reject", pl.col("lost")),
    Rule("span_no_tokens", "reject", TOKEN_START.is_null()),
    Rule("span_truncated", "flag", pl.col("truncated"), pl.format("ends at token {}", TOKEN_END)),
    Rule(
        "span_straddles",
        "flag",
        pl.col("straddles"),
        pl.format("reaches {} to {}", "reach_start", "reach_end"),
    ),
    Rule("span_unknown", "flag", pl.col("unknown")),
]


def counts(texts: pl.DataFrame, spans: pl.DataFrame, findings: pl.DataFrame) -> dict[str, int]:
    """Kept texts and spans, how many of each the tokenizer changed, and how many it had no token for."""
    matched = int((spans["source"] == "matched").sum())
    changes = ("truncated", "straddles", "unknown", "case_folded", "leading_space")
    return {
        "texts": len(texts),
        "text_truncated": int(texts["truncated"].sum()),
        "text_unknown": int(texts["unknown"].sum()),
        "text_no_tokens": len(findings.filter(reason="text_no_tokens")),
        "spans": len(spans),
        "span_annotated": len(spans) - matched,
        "span_matched": matched,
        **{f"span_{change}": int(spans[change].sum()) for change in changes},
        "span_no_tokens": len(findings.filter(reason="span_no_tokens")),
    }
