"""Settings of a run: out of params.yaml, a preset and `--set`, and in and out of a run's config.json."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from contract import params, plain_yaml
from contract.errors import ParamsError
from training.config import Tasks, Train


def load(path: Path, overrides: list[str], preset: Mapping[str, Any] | None = None) -> tuple[Train, int]:
    """`train` of params.yaml, a preset ("optim.batch" → value) and `--set` over it, and the seed.

    ParamsError at the first setting that is unknown, of another kind, or contradicts another.

    `inputs` must be said, if only as `{}`: a run that never looks at a picture is not made by leaving it out.
    """
    content = plain_yaml.read(path)
    params.check_keys(content, params.Params, str(path))
    settings = content.get("train") or {}
    if not isinstance(settings, dict):
        raise ParamsError(f"{path}: train", "holds no keys", found=settings)
    said = dict[str, str]()
    for source, named in (("--preset", (preset or {}).items()), ("--set", map(_parse, overrides))):
        for place, value in named:
            _apply(settings, place, value)
            said.pop(place, None)
            said[place] = source
    _check_finite(settings, f"{path}: train")
    if "inputs" not in settings:
        raise ParamsError(
            f"{path}: train.inputs", "no feature column is named", fix="name one, or say --blind"
        )
    train = params.convert(settings, Train, f"{path}: train", said)
    _check(train, str(path))
    return train, params.convert(content.get("seed", 0), int, f"{path}: seed")


def _check(train: Train, path: str) -> None:
    """What no type says."""
    if not train.tasks.chosen:
        raise ParamsError(
            f"{path}: train.tasks", "names no task", expected=" or ".join(Tasks.__struct_fields__)
        )
    if train.optim.batch % train.optim.accumulate:
        raise ParamsError(
            f"{path}: train.optim",
            "batch is not a multiple of accumulate",
            found=f"batch {train.optim.batch}, accumulate {train.optim.accumulate}",
        )
    if train.patience and not train.development:
        raise ParamsError(
            f"{path}: train.patience",
            "waits for a better development score, and no picture is held out for one",
            fix="development: 0.05, or no patience",
        )


def override(train: Train, overrides: list[str]) -> Train:
    """`--set` over the settings of a run."""
    settings = to_builtins(train)
    for place, value in map(_parse, overrides):
        _apply(settings, place, value)
    return from_builtins(settings, "--set")


def _parse(override: str) -> tuple[str, Any]:
    """`optim.epochs=2` as a place and a value."""
    place, equals, value = override.partition("=")
    if not equals:
        raise ParamsError(f"--set {override}", "is not key=value", expected="for example optim.epochs=2")
    parsed = plain_yaml.parse(value, f"--set {override}")
    _check_finite(parsed, f"--set {place}")
    return place, parsed


def _apply(settings: dict[str, Any], place: str, value: Any) -> None:
    """A value into the nested mapping."""
    *parents, last = place.split(".")
    for parent in parents:
        settings = settings.setdefault(parent, {})
        if not isinstance(settings, dict):
            raise ParamsError(f"--set {place}", f"'{parent}' holds no keys")
    settings[last] = value


def _check_finite(value: object, place: str) -> None:
    """No setting of a mapping is infinite or not a number, which YAML can write and no type refuses."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ParamsError(place, "is not a finite number", found=value)
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_finite(inner, f"{place}.{key}")


def to_builtins(train: Train) -> dict[str, Any]:
    """Plain data for a run's config.json; `from_builtins` is its inverse."""
    plain: dict[str, Any] = msgspec.to_builtins(train)
    return plain


def from_builtins(content: object, where: str) -> Train:
    """A run's settings as it stored them."""
    return params.convert(content, Train, where)
