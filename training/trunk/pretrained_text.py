"""A text encoder of transformers, BERT's or CLIP's, frozen or trained on, in the place of one from scratch.

Its files are those that are published: config.json, tokenizer.json, model.safetensors. Texts reach it as
tokens of its own tokenizer, without specials: those are put round them here.

Legend: T texts, L tokens, D width of the encoder, H hidden.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from msgspec import Struct
from tokenizers import Tokenizer
from torch import Tensor, nn

from contract.errors import MismatchError, ParamsError
from contract.files import sha256_file, sha256_text
from training.config import TextModel
from training.trunk import published
from training.trunk.picture import FeatureNormalizer
from training.trunk.published import CONFIG, PLACE, TOKENIZER

FIRST, LAST = 0, 1  # the special token whose state stands for the whole text: before it, or after it
SUMMARY = {"bert": FIRST, "clip": LAST, "clip_text_model": LAST}  # by `model_type` of config.json
POOLER = "pooler"  # of the first token: many folders have no weights for it, and it is not read


class Specials(Struct, frozen=True):
    """Ids of the tokens before and after a text; summary: which of the two stands for it."""

    before: int
    after: int
    summary: int


class PretrainedText(nn.Module):
    """Token ids [T,L] → states [T,1+L,H]; the first is the encoder's own summary of the text."""

    def __init__(
        self, encoder: nn.Module, specials: Specials, width: int, hidden: int, max_tokens: int, trained: bool
    ) -> None:
        super().__init__()
        self.specials, self.max_tokens, self.trained = specials, max_tokens, trained
        self.encoder = encoder.requires_grad_(trained)
        self.project = FeatureNormalizer(width, hidden)
        self.train()

    def train(self, mode: bool = True) -> "PretrainedText":
        """Frozen, the encoder stays in evaluation mode: it draws no dropout."""
        super().train(mode)
        self.encoder.train(mode and self.trained)
        return self

    def forward(self, tokens_TL: Tensor, mask_TL: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the states and their mask [T,1+L]. Tokens beyond `max_tokens` are not looked at."""
        tokens_TL, mask_TL = tokens_TL[:, : self.max_tokens], mask_TL[:, : self.max_tokens]
        after = 1 + mask_TL.sum(1, keepdim=True)  # where the second special stands
        ids = F.pad(tokens_TL, (1, 1), value=0).scatter(1, after, self.specials.after)
        ids[:, 0] = self.specials.before
        real = torch.arange(ids.shape[1], device=ids.device) <= after
        with torch.set_grad_enabled(self.trained and torch.is_grad_enabled()):
            states = self.encoder(input_ids=ids, attention_mask=real.long()).last_hidden_state
        summary = states[:, :1] if self.specials.summary == FIRST else _at(states, after)
        mask = F.pad(mask_TL, (1, 0), value=True)
        return self.project(torch.cat([summary, states[:, 1:-1]], 1)), mask


def _at(states: Tensor, place_T1: Tensor) -> Tensor:
    """[T,1,D] the state at each text's place."""
    return states.gather(1, place_T1[..., None].expand(-1, -1, states.shape[2]))


def build(settings: TextModel, hidden: int, max_tokens: int, recomputed: bool = False) -> PretrainedText:
    """The encoder of the settings' files. recomputed: while trained on, its layers keep their inputs alone.

    ParamsError or MismatchError where it cannot be had.
    """
    kind, text = _config(settings)
    _check_length(settings, text, max_tokens)
    specials = _specials(settings, text.vocab_size, SUMMARY[kind])
    encoder = (_fresh if settings.random else _loaded)(settings, kind, text)
    if recomputed and settings.trained:
        encoder.gradient_checkpointing_enable({"use_reentrant": False})
    return PretrainedText(encoder, specials, text.hidden_size, hidden, max_tokens, settings.trained)


def tokenizer(settings: TextModel) -> Tokenizer | None:
    """The encoder's own; None where texts come as they are tokenised in the shards.

    It cuts and pads nothing, whatever its file asks for: batches do, and count what they cut.
    """
    if not settings.path:
        return None
    path = published.file(settings.path, TOKENIZER)
    with published.read(path):
        known = Tokenizer.from_file(str(path))
    known.no_truncation()
    known.no_padding()
    return known


def description(settings: TextModel) -> list[Path]:
    """The files that tell all of the encoder but its weights; none where it is made with the run."""
    return [published.file(settings.path, part) for part in (CONFIG, TOKENIZER)] if settings.path else []


def fingerprint(settings: TextModel) -> str:
    """Hex sha256 of the files that the encoder is made of, "" where it is made with the run."""
    if not settings.path:
        return ""
    weights = [] if settings.random else published.weights(settings.path)
    files = [*description(settings), *weights]
    return sha256_text("\n".join(f"{path.name} {sha256_file(path)}" for path in files))


def _transformers() -> Any:
    """The package, silent."""
    package = published.package("transformers")
    package.utils.logging.disable_progress_bar()
    package.utils.logging.set_verbosity_error()  # of weights that are missing we tell ourselves
    return package


def _config(settings: TextModel) -> tuple[str, Any]:
    """The `model_type`, and the configuration of its text encoder."""
    path = published.file(settings.path, CONFIG)
    with published.read(path):
        config = _transformers().AutoConfig.from_pretrained(path.parent, local_files_only=True)
    if config.model_type not in SUMMARY:
        raise ParamsError(
            path, "is of no text encoder that is known", found=config.model_type, expected=", ".join(SUMMARY)
        )
    return config.model_type, config.get_text_config()


def _check_length(settings: TextModel, text: Any, max_tokens: int) -> None:
    with published.read(published.file(settings.path, CONFIG)):
        longest = text.max_position_embeddings - 2  # without the specials
    if max_tokens > longest:
        raise ParamsError(
            "train.model.max_tokens",
            f"is more than {settings.path} takes",
            found=max_tokens,
            expected=f"at most {longest}",
        )


def _specials(settings: TextModel, vocabulary: int, summary: int) -> Specials:
    """What the tokenizer puts round a text."""
    known = tokenizer(settings)
    assert known is not None
    ids = known.encode("").ids
    if len(ids) != 2 or known.get_vocab_size() > vocabulary:
        raise ParamsError(
            published.file(settings.path, TOKENIZER),
            "is not the tokenizer of this encoder",
            found=f"{known.get_vocab_size()} tokens, {len(ids)} specials round a text",
            expected=f"{vocabulary} tokens at most, 2 specials",
        )
    return Specials(ids[0], ids[1], summary)


def _kind(model_type: str) -> Any:
    package = _transformers()
    return package.BertModel if model_type == "bert" else package.CLIPTextModel


def _fresh(settings: TextModel, model_type: str, text: Any) -> Any:
    """Its architecture with random weights."""
    with published.read(published.file(settings.path, CONFIG), "describes no encoder"):
        return _without_pooler(_kind(model_type)(text))


def _loaded(settings: TextModel, model_type: str, text: Any) -> Any:
    kind = _kind(model_type)
    with published.read(f"{PLACE}.path", "cannot be loaded", found=settings.path):
        model, info = kind.from_pretrained(
            published.folder(settings.path),
            config=text,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,  # never a pickle
            output_loading_info=True,
        )
    missing = sorted(name for name in info["missing_keys"] if name.partition(".")[0] != POOLER)
    if missing:
        raise MismatchError(
            settings.path, f"its weights lack {len(missing)} of {kind.__name__}'s, such as {missing[0]}"
        )
    return _without_pooler(model)


def _without_pooler(model: Any) -> Any:
    if hasattr(model, POOLER):
        setattr(model, POOLER, None)
    return model
