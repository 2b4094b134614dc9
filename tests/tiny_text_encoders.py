"""Small random text encoders of transformers with a tokenizer of words, in folders as they are published."""

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

WORDS = ["a", "the", "dog", "cat", "horse", "on", "under", "grass", "red", "big", "runs", "sits", "in", "sun"]
SPECIALS = ["[PAD]", "[UNK]", "[BOS]", "[EOS]"]
PAD, _, BOS, EOS = range(len(SPECIALS))
LONGEST = 40  # tokens
SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = SIZES | {
    "vocab_size": len(SPECIALS) + len(WORDS),
    "max_position_embeddings": LONGEST,
    "pad_token_id": PAD,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
}


def save_clip(folder: Path) -> Any:
    """A whole CLIP, pictures of 32 pixels; its own length 12 of a vector."""
    vision = SIZES | {"image_size": 32, "patch_size": 8}
    config = transformers.CLIPConfig(vision_config=vision, text_config=TEXT, projection_dim=12)
    pictures = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    pictures.save_pretrained(folder)
    return _saved(transformers.CLIPModel, config, folder)


def save_bert(folder: Path) -> Any:
    """As most are published: with a head for masked words, without a pooler."""
    return _saved(transformers.BertForMaskedLM, transformers.BertConfig(**TEXT), folder)


def save_tokenizer(folder: Path, pad: str | None = "[PAD]") -> Any:
    """A token a word, between [BOS] and [EOS]."""
    words = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(SPECIALS + WORDS)}, "[UNK]")
    )
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[BOS]", BOS), ("[EOS]", EOS)]
    words.post_processor = processors.TemplateProcessing(single="[BOS] $A [EOS]", special_tokens=ends)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", pad_token=pad, bos_token="[BOS]", eos_token="[EOS]"
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def _saved(kind: Any, config: Any, folder: Path) -> Any:
    torch.manual_seed(0)
    model = kind(config).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.2 * torch.randn_like(value))
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return model
