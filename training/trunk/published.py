"""The files of a text encoder as they are published: in a folder, or by its name from the hub's cache."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from contract import params
from contract.errors import FuselineError, ParamsError

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
WEIGHTS = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")  # never a pickle
PLACE = "train.model.text"


def folder(name: str) -> Path:
    """Where the files lie; what is no folder is fetched. ParamsError where it cannot be had."""
    if Path(name).is_dir():
        return Path(name)
    if Path(name).parts[:1] == (params.WEIGHTS,):
        raise ParamsError(f"{PLACE}.path", "no such folder", found=name, fix="put the encoder's files there")
    return _fetched(name)


def file(name: str, part: str) -> Path:
    """One of them. ParamsError where it is missing."""
    path = folder(name) / part
    if not path.is_file():
        fix = "put the files of a published BERT or CLIP there"
        raise ParamsError(f"{PLACE}.path", f"holds no {part}", found=name, fix=fix)
    return path


def weights(name: str) -> list[Path]:
    """The files of the weights, by name."""
    return sorted(path for pattern in WEIGHTS for path in folder(name).glob(pattern))


def package(name: str) -> Any:
    """One of the packages that read them, imported where it is needed."""
    try:
        return import_module(name)
    except ImportError:
        raise ParamsError(PLACE, f"needs the package {name}", fix="pip install 'fuseline[hf]'") from None


@contextmanager
def read(place: object, problem: str = "cannot be read", **more: str) -> Iterator[None]:
    """What those packages raise inside, which can be of any kind, is a ParamsError of this place."""
    try:
        yield
    except FuselineError:
        raise
    except Exception as error:
        raise ParamsError(place, f"{problem}: {' '.join(str(error).split())[:200]}", **more) from None


@cache
def _fetched(name: str) -> Path:
    """Once a process, so that all of it reads the same revision."""
    fix = "name a folder of its files, or a model of the hub"
    with read(f"{PLACE}.path", "is no folder, and no model could be fetched", found=name, fix=fix):
        fetch = package("huggingface_hub").snapshot_download
        return Path(fetch(name, allow_patterns=[CONFIG, TOKENIZER, *WEIGHTS]))
