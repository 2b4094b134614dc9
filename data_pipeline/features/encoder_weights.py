"""Where an encoder's weights come from: the hub, a file, or a seed; and the hash that identifies them."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from contract import seeds
from contract.errors import FuselineError, MismatchError
from contract.files import sha256_file
from contract.manifest import WeightsFacts
from data_pipeline.features.token_encoder import TokenEncoder

PRETRAINED, RANDOM = "pretrained", "random"
WRAPPERS = ("model", "state_dict")  # under which training scripts save the weights proper
SHOWN = 3  # names per list in an error


def seed(model: str) -> None:
    """Start torch's generator from the model's name, so that fresh weights repeat."""
    torch.manual_seed(seeds.seed64("weights", model))


def settle(encoder: TokenEncoder, source: str) -> WeightsFacts:
    """Give a freshly built encoder the weights that `source` names, and say which they are."""
    if source == PRETRAINED:
        return WeightsFacts(source, hash_tensors(encoder.state_dict()))
    if source == RANDOM:
        return WeightsFacts(source, hash_tensors(encoder.state_dict()))
    path = Path(source)
    fill(encoder, encoder.own_part(read(path)), path)
    return WeightsFacts(source, sha256_file(path), is_demo(path))


def is_demo(path: Path) -> bool:
    """Whether stage pretrain made this file: its own metadata say so, wherever it is copied."""
    if path.suffix != ".safetensors":
        return False
    with safe_open(path, "pt") as file:
        return (file.metadata() or {}).get("demo") == "true"


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a .pth file that holds nothing but tensors."""
    if not path.is_file():
        fix = 'name a file that exists, or "pretrained"; the demo\'s are made by: dvc repro pretrain'
        raise FuselineError(path, "no such weights file", fix=fix)
    try:
        content = (
            load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        )
    except SafetensorError as error:
        raise _unreadable(path, error) from None
    except Exception as error:  # a damaged zip, a pickle, an end of file: torch.load has no error of its own
        raise _unreadable(path, error) from None
    return _unwrapped(content, path)


def _unreadable(path: Path, error: Exception) -> MismatchError:
    found = " ".join(str(error).split())[:200]
    return MismatchError(
        path, "is no file of weights", found=found, expected=".safetensors, or .pth with tensors only"
    )


def _unwrapped(content: Any, path: Path) -> dict[str, Tensor]:
    for name in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise MismatchError(path, "does not hold named tensors", found=type(content).__name__)
    return content


def fill(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Load weights into the model; every name and shape must fit (MismatchError)."""
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in weights.items()}
    problems = {
        "missing": wanted.keys() - given.keys(),
        "unexpected": given.keys() - wanted.keys(),
        "other shape": {name for name in wanted.keys() & given.keys() if wanted[name] != given[name]},
    }
    if any(problems.values()):
        found = "; ".join(f"{len(names)} {what}: {_few(names)}" for what, names in problems.items() if names)
        fix = "check `model`, `options` and `weights` of this encoder in params.yaml"
        raise MismatchError(path, "these weights are not of this model", found=found, fix=fix)
    model.load_state_dict(weights)


def _few(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:SHOWN]) + (", …" if len(ordered) > SHOWN else "")


def hash_tensors(tensors: dict[str, Tensor]) -> str:
    """Hex sha256 over names, shapes and values."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()
