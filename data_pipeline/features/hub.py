"""Models of transformers, from a folder under weights/ or the hub. The package is imported on demand."""

import json
from pathlib import Path
from typing import Any

from torch import float32, nn

from contract import params
from contract.errors import MismatchError, ParamsError
from contract.files import sha256_text

NOT_SHAPING = ("_name_or_path", "transformers_version")  # of a model's configuration
EXTRA = "pip install 'fuseline[hf]'"


def transformers(where: str) -> Any:
    """The package, silent. ParamsError where it is not installed."""
    try:
        import transformers as package
    except ImportError:
        raise ParamsError(where, "needs the package transformers", fix=EXTRA) from None
    package.utils.logging.disable_progress_bar()
    package.utils.logging.set_verbosity_error()  # of weights that are missing we tell ourselves
    return package


def check_folder(model: str, where: str) -> None:
    """ParamsError for a folder that is missing, or that could change without any stage knowing."""
    inside = Path(model).parts[:1] == (params.WEIGHTS,)
    if inside and not Path(model).is_dir():
        raise ParamsError(where, "no such folder", found=model, fix="put the model's files there")
    if Path(model).exists() and not inside:
        fix = f"move it there: the stages that read it run again when {params.WEIGHTS}/ changes"
        raise ParamsError(where, f"lies outside {params.WEIGHTS}/", found=model, fix=fix)


def load(kind: Any, model: str, where: str, unread: str | None = None, **given: Any) -> nn.Module:
    """The model's weights in float32, in a class of transformers. unread: a part that may lack its weights.

    ParamsError where they cannot be had, MismatchError where some are missing.
    """
    try:
        loaded, info = kind.from_pretrained(model, dtype=float32, output_loading_info=True, **given)
    except (OSError, RuntimeError, ValueError) as error:  # no file, other shapes, another format
        raise unfetched(where, error) from None
    missing = sorted(name for name in info["missing_keys"] if name.partition(".")[0] != unread)
    if missing:
        problem = f"its weights lack {len(missing)} of {kind.__name__}'s, such as {missing[0]}"
        raise MismatchError(where, problem)
    found: nn.Module = loaded
    return found


def hash_config(config: Any) -> str:
    """Hex sha256 of all that a configuration says of its model, wherever it lies."""
    said = {name: value for name, value in config.to_dict().items() if name not in NOT_SHAPING}
    return sha256_text(json.dumps(said, sort_keys=True))


def unfetched(where: str, error: Exception) -> ParamsError:
    """The error for what transformers cannot find or read."""
    fix = f"put its files into a folder under {params.WEIGHTS}/ and name that"
    return ParamsError(where, "cannot be fetched or read", found=" ".join(str(error).split())[:200], fix=fix)
