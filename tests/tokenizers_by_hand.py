"""Small tokenizers of the kinds that models use, with vocabularies written by hand."""

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from data_pipeline.texts.tokenizer_file import build

MERGES = [("d", "o"), ("do", "g"), ("c", "a"), ("ca", "t"), ("r", "e"), ("re", "d")]
SPACED = [("Ġ", "dog"), ("Ġ", "cat"), ("Ġ", "red"), ("Ġ", "a")]
CLIP_WORDS = r"<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())


def word_piece() -> Tokenizer:
    """BERT's: lower case, no accents, punctuation apart, unknown words as [UNK]."""
    return build(["a red cat, two dogs and the café near it"], 400)


def byte_level(trim_offsets: bool, add_prefix_space: bool = False) -> Tokenizer:
    """GPT-2's and RoBERTa's: a word and the space before it are one token; offsets hold the space or not."""
    tokenizer = Tokenizer(models.BPE(_numbered(BYTES, [*MERGES, *SPACED]), [*MERGES, *SPACED]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim_offsets)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def clip() -> Tokenizer:
    """CLIP's: NFC, one space for many, lower case; bytes, of which a word's last is written with `</w>`."""
    merges = [("d", "o"), ("do", "g</w>"), ("c", "a"), ("ca", "t</w>"), ("r", "e"), ("re", "d</w>")]
    vocabulary = _numbered([*BYTES, *(byte + "</w>" for byte in BYTES)], merges)
    unknown = "<|endoftext|>"
    vocabulary[unknown] = len(vocabulary)
    model = models.BPE(vocabulary, merges, unk_token=unknown, end_of_word_suffix="</w>")
    tokenizer = Tokenizer(model)
    one_space = normalizers.Replace(Regex(r"\s+"), " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), one_space, normalizers.Lowercase()])
    words = pre_tokenizers.Split(Regex(CLIP_WORDS), "removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.Sequence([decoders.Replace("</w>", "Ġ"), decoders.ByteLevel()])
    return tokenizer


def _numbered(entries: list[str], merges: list[tuple[str, str]]) -> dict[str, int]:
    """Entries and what the merges make of them, in order."""
    return {entry: number for number, entry in enumerate([*entries, *(a + b for a, b in merges)])}


TOKENIZERS = {
    "WordPiece": word_piece(),
    "byte-level, trimmed": byte_level(trim_offsets=True),
    "byte-level, with spaces": byte_level(trim_offsets=False),
    "byte-level, prefixed": byte_level(trim_offsets=True, add_prefix_space=True),
    "CLIP": clip(),
}
