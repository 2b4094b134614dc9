"""What makes a text, or a span inside it, unusable: tables of (reason, predicate).

Text columns beside the table's own: picture_split (null if the picture was rejected), declared (the dataset
has the picture), target_lost, target_strays (the target is kept in another split), about_lost.
Entity columns: content and picture of its text (null if the text was rejected), declared_text,
region_missing.
"""

import polars as pl

from data_pipeline.pictures.placement import TRAIN
from data_pipeline.validation.rules import Rule, again

CONTENT = pl.col("content")
CONTROL = r"[\x00-\x08\x0B\x0C\x0E-\x1F\x7F]"  # tab and line break are legal: real phrases hold them
DAMAGE = r"[\x{80}-\x{9F}\x{FFFD}]"  # letters that a wrong decoding lost; no one types these
MOJIBAKE = (
    r"[ÂÃ][\x{A0}-\x{BF}]|â€"  # "Ã©": bytes of UTF-8 read as Latin-1. Could be meant, so the text stays
)
FULL = ".full"  # ends the id of a question's full answer
SPLIT = pl.col("picture_split")
# A picture can stand in several splits and is kept in one; its texts of the others must not follow it.
STRAYS = (pl.col("split") != "") & (pl.col("split") != SPLIT)
NO_REPEATS = ("question", "edit", "phrase")  # full answers may well repeat

UNREADABLE = [  # of a true text or of one given as false
    Rule("blank_text", "reject", CONTENT.str.strip_chars() == ""),
    Rule("control_characters", "reject", CONTENT.str.contains(CONTROL)),
    Rule("encoding_damage", "reject", CONTENT.str.contains(DAMAGE)),
]
OWN = [
    Rule("unknown_picture", "reject", ~pl.col("declared")),
    Rule("picture_rejected", "reject", SPLIT.is_null()),
    Rule("split_differs", "reject", STRAYS, pl.format("{}, the picture is {}", "split", SPLIT)),
    Rule("duplicate_id", "reject", again("text")),
    *UNREADABLE,
    Rule("target_rejected", "reject", pl.col("target_lost")),
    Rule("target_in_other_split", "reject", pl.col("target_strays")),
    Rule("region_rejected", "reject", pl.col("about_lost")),
    Rule("mojibake", "flag", CONTENT.str.contains(MOJIBAKE)),
]


# Among the sound texts of the same picture.
ANSWERS = pl.col("answer").drop_nulls().n_unique().over("picture", "role", "content")
CONFLICT = (pl.col("role") == "question") & (ANSWERS > 1)
REPEAT = again("picture", "role", "type", "content", "answer") & pl.col("role").is_in(NO_REPEATS)
AMONG_OTHERS = [
    Rule("conflicting_answers", "reject", CONFLICT & (SPLIT == TRAIN)),
    Rule("conflicting_answers", "flag", CONFLICT),
    Rule("duplicate_text", "flag", REPEAT),
]


def statements_of(questions: pl.Series) -> Rule:
    """The full answer of a rejected question, `<question>.full`, says the same and goes with it."""
    asked = pl.col("text").str.strip_suffix(FULL)
    full = (pl.col("role") == "statement") & pl.col("text").str.ends_with(FULL)
    return Rule("text_rejected", "reject", full & asked.is_in(questions.implode()))


START, END = pl.col("start"), pl.col("end")
IN_RANGE = (START >= 0) & (START < END) & (CONTENT.str.len_chars() >= END)
SPELLED = CONTENT.str.slice(START.clip(0), (END - START).clip(0))

ENTITY = [
    Rule("unknown_text", "reject", ~pl.col("declared_text")),
    Rule("text_rejected", "reject", CONTENT.is_null()),
    Rule("duplicate_span", "reject", again("drop", "text", "span")),
    Rule("span_out_of_range", "reject", ~IN_RANGE, pl.format("{} characters", CONTENT.str.len_chars())),
    Rule("span_region_missing", "flag", pl.col("region_missing")),
    Rule("span_name_differs", "flag", pl.col("name") != SPELLED, pl.format("spells '{}'", SPELLED)),
]
