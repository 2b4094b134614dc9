"""Tokenizers are files: loaded by path, made or fetched on purpose, always the same bytes.

The library's own WordPiece trainer gives another file at each run; this one orders by count and word.
"""

import json
import string
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from contract.errors import ParamsError

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # ids 0 to 4
ASCII = string.ascii_lowercase + string.digits + string.punctuation
CONTINUES = "##"
LONGEST_WORD = 100  # characters; a longer one becomes [UNK]


def load(name: str) -> Tokenizer:
    """A tokenizers JSON file. ParamsError when it is none.

    Every text gets all of its tokens and no others: padding and truncation stored in the file are off.
    """
    if not Path(name).is_file():
        fix = "python -m data_pipeline tokenizer --help: makes one from texts, or fetches one from the hub"
        raise _unusable(f"no tokenizer '{name}'", "no such file", fix)
    try:
        tokenizer = Tokenizer.from_file(name)
    except Exception as error:  # the library raises bare Exception
        raise _unusable(f"'{name}' is no tokenizer", error) from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _unusable(problem: str, found: object, fix: str | None = None) -> ParamsError:
    said = " ".join(str(found).split())[:200]
    expected = "a tokenizers JSON file"
    return ParamsError("params.yaml: tokenizer.name", problem, found=said, expected=expected, fix=fix)


def fetch(name: str) -> Tokenizer:
    """The tokenizer of that name on the hub; needs the network. ParamsError when it cannot be fetched."""
    try:
        return Tokenizer.from_pretrained(name)
    except Exception as error:  # the library raises bare Exception
        raise ParamsError(
            f"--hub {name}", "cannot be fetched", found=" ".join(str(error).split())[:200]
        ) from None


def build(texts: Iterable[str], size: int) -> Tokenizer:
    """A WordPiece tokenizer of at most `size` entries, or as many as the characters need.

    Every character of the texts, and of ASCII, is an entry, alone and as a continuation, so a word that
    is none splits into characters and never becomes [UNK]; then come whole words, the most frequent
    first, equals in the order of the alphabet.
    """
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    words: Counter[str] = Counter()
    for text in texts:
        words.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    tokenizer = Tokenizer(_word_piece(vocabulary(words, size)))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.decoder = decoders.WordPiece(prefix=CONTINUES)
    tokenizer.add_special_tokens(list(SPECIALS))
    return tokenizer


def vocabulary(words: Counter[str], size: int) -> list[str]:
    """Specials, characters, continued characters, then words by (-count, word)."""
    characters = sorted({character for word in words for character in word} | set(ASCII))
    entries = [*SPECIALS, *characters, *(CONTINUES + character for character in characters)]
    ranked = sorted((word for word in words if len(word) > 1), key=lambda word: (-words[word], word))
    return entries + ranked[: max(0, size - len(entries))]


def _word_piece(entries: list[str]) -> models.WordPiece:
    vocab = {entry: number for number, entry in enumerate(entries)}
    return models.WordPiece(
        vocab, unk_token="[UNK]", continuing_subword_prefix=CONTINUES, max_input_chars_per_word=LONGEST_WORD
    )


def to_bytes(tokenizer: Tokenizer) -> bytes:
    """The file: the library's JSON, with the vocabulary in the order of its ids."""
    content = json.loads(tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    if isinstance(vocabulary, dict):  # a Unigram model has a list, in the order of ids already
        content["model"]["vocab"] = dict(sorted(vocabulary.items(), key=lambda entry: entry[1]))
    return (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode()
