"""Texts as vectors of a text encoder of transformers: CLIP's projection, or any other's mean token.

A text's vector does not depend on the texts beside it: a batch has always as many rows, and a width out of a
few that the text's own length decides.

B texts of a batch, L tokens, D channels.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import Tensor

from contract.errors import FuselineError, ParamsError
from data_pipeline.features import hub
from data_pipeline.features.encoder_weights import hash_tensors
from data_pipeline.negatives.neighbours import Vectors

BATCH = 64
STEP = 16  # tokens: widths are its multiples
LONGEST = 512  # tokens, or as many as the model takes; what goes beyond is cut off
CLIP = ("clip", "clip_text_model")  # `model_type` of config.json
POOLER = "pooler"  # of the CLS token: many folders have no weights for it


class Tower(Struct, frozen=True):
    """An encoder that is ready to run. projected: its vectors share a space with those of CLIP's pictures."""

    name: str
    model: Any
    tokenizer: Any
    projected: bool
    longest: int

    @property
    def width(self) -> int:
        """D."""
        config = self.model.config
        return int(config.projection_dim if self.projected else config.hidden_size)

    @property
    def weights(self) -> str:
        """Hex sha256."""
        return hash_tensors(self.model.state_dict())


class Block(Struct, frozen=True):
    """Texts for one task. encoder: a folder under weights/, or a name on the hub."""

    encoder: str
    texts: Sequence[str]


def encode(block: Block) -> Vectors:
    """[N,D] float32 of any length, on one thread. FuselineError where a value is not finite."""
    torch.set_num_threads(1)
    tower = load(block.encoder)
    tokens = tower.tokenizer(list(block.texts), truncation=True, max_length=tower.longest)["input_ids"]
    vectors_ND = np.zeros((len(block.texts), tower.width), np.float32)
    for width, rows in _batches(np.array([len(ids) for ids in tokens]), tower.longest):
        filled = np.resize(rows, BATCH)  # repeats rows where there are too few
        vectors_ND[filled] = _forward(tower, [tokens[row] for row in filled], width)
    finite_N = np.isfinite(vectors_ND).all(1)
    if not finite_N.all():
        found = block.texts[int(np.argmin(finite_N))]
        raise FuselineError(_where(block.encoder), "gives values that are not finite", found=found)
    return vectors_ND


def _batches(lengths_N: NDArray[np.int64], longest: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """(width, rows) until each row had its turn, rows of one width together."""
    widths_N = np.minimum(-(-np.maximum(lengths_N, 1) // STEP) * STEP, longest)
    for width in np.unique(widths_N).tolist():
        rows = np.flatnonzero(widths_N == width)
        for start in range(0, len(rows), BATCH):
            yield width, rows[start : start + BATCH]


@torch.inference_mode()
def _forward(tower: Tower, tokens: Sequence[Sequence[int]], width: int) -> Vectors:
    ids_BL = torch.full((len(tokens), width), tower.tokenizer.pad_token_id)
    real_BL = torch.zeros((len(tokens), width), dtype=torch.int64)
    for row, ids in enumerate(tokens):
        ids_BL[row, : len(ids)] = torch.tensor(ids)
        real_BL[row, : len(ids)] = 1
    found = tower.model(input_ids=ids_BL, attention_mask=real_BL)
    vectors_BD = found.text_embeds if tower.projected else mean(found.last_hidden_state, real_BL)
    return vectors_BD.numpy()


def mean(tokens_BLD: Tensor, real_BL: Tensor) -> Tensor:
    """[B,D]: of the tokens that are real."""
    return (tokens_BLD * real_BL.unsqueeze(2)).sum(1) / real_BL.sum(1, keepdim=True)


@lru_cache(maxsize=1)
def load(encoder: str) -> Tower:
    """The tower with its tokenizer, once per process.

    ParamsError where transformers is not installed, nothing can be fetched, or it is no text encoder.
    """
    where = _where(encoder)
    hub.check_folder(encoder, where)
    transformers = hub.transformers(where)
    try:
        config = transformers.AutoConfig.from_pretrained(encoder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(encoder)
    except (OSError, ValueError) as error:
        raise hub.unfetched(where, error) from None
    projected = config.model_type in CLIP
    if not (projected or _is_text_encoder(config)):
        expected = "CLIP, or an encoder of nothing but text"
        raise ParamsError(where, "is not a text encoder", found=config.model_type, expected=expected)
    _check_tokenizer(tokenizer, config.get_text_config().vocab_size, where)
    model = (_clip if projected else _plain)(transformers, encoder, config).eval()
    most = getattr(model.config, "max_position_embeddings", LONGEST)
    return Tower(encoder, model, tokenizer, projected, min(LONGEST, most, tokenizer.model_max_length))


def _where(encoder: str) -> str:
    return f"negatives.text.encoder {encoder}"


def _is_text_encoder(config: Any) -> bool:
    two_parts = hasattr(config, "vision_config") or config.is_encoder_decoder
    return not two_parts and hasattr(config, "vocab_size")


def _check_tokenizer(tokenizer: Any, known: int, where: str) -> None:
    """transformers makes an empty one up where its files are missing. known: tokens of the model."""
    specials = set(tokenizer.all_special_tokens)
    if tokenizer.pad_token_id is None or not len(specials) < len(tokenizer) <= known:
        raise ParamsError(
            where,
            "its tokenizer is missing, or not the model's",
            found=f"{len(tokenizer)} tokens, {len(specials)} of them special, padding {tokenizer.pad_token}",
            expected=f"words, a padding token, and {known} tokens at most",
            fix="put tokenizer.json and tokenizer_config.json of the model into its folder",
        )


def _clip(transformers: Any, encoder: str, config: Any) -> Any:
    """The text tower; its projection is as wide as the whole model says."""
    text = config.get_text_config()
    text.projection_dim = config.projection_dim
    return hub.load(transformers.CLIPTextModelWithProjection, encoder, _where(encoder), config=text)


def _plain(transformers: Any, encoder: str, config: Any) -> Any:
    """The model without the pooler, which is not read and may be fresh."""
    model = hub.load(transformers.AutoModel, encoder, _where(encoder), unread=POOLER, config=config)
    if hasattr(model, POOLER):
        setattr(model, POOLER, None)
    return model
