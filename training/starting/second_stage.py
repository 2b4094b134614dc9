"""The second stage of cir: what it freezes comes of another run."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from contract.errors import MismatchError, ParamsError
from training.config import Train
from training.heads.cir import CirHead
from training.model.model import FusionModel

READ = ("trunk.picture.", *(f"heads.cir.{part}" for part in ("queries", "read.", "norm_read.", "target.")))
READER = "heads.cir.reader."


def chosen(settings: Train) -> bool:
    """Whether a run is one."""
    return settings.tasks.cir is not None and settings.tasks.cir.static_bank


def check(settings: Train, init: Path | None) -> None:
    """ParamsError where no run is named that it goes on from."""
    if chosen(settings) and init is None:
        raise ParamsError(
            "train.tasks.cir.static_bank",
            "freezes what reads pictures, and nothing has trained it",
            fix="train cir first, then --init that run",
        )


def check_source(init: Path, before: Train, settings: Train) -> None:
    """MismatchError where weights of that run mean nothing under these settings."""
    if chosen(settings):
        _check_frozen(init, before, settings)
    elif chosen(before) and settings.tasks.cir:
        raise MismatchError(
            init,
            "is a second stage: what reads its references would be left out, and the rest fits no other",
            found="static_bank false",
            expected="static_bank true",
            fix="tasks.cir.static_bank: true, or --init the run that it was begun with",
        )


def _check_frozen(init: Path, before: Train, settings: Train) -> None:
    """Weights of the same shape mean nothing under other settings of what they were trained in."""
    stored, now = _frozen(before), _frozen(settings)
    if differing := [name for name in now if stored[name] != now[name]]:
        raise MismatchError(
            init,
            "was trained with other settings of what train.tasks.cir.static_bank freezes",
            found="; ".join(f"{name} {now[name]}" for name in differing),
            expected="; ".join(f"{name} {stored[name]}" for name in differing),
            fix="set them as in the config.json of that run",
        )


def _frozen(settings: Train) -> dict[str, object]:
    """With what trained the first state of what reads the reference."""
    size = settings.model
    return {
        "train.inputs": settings.inputs,
        "train.fusion": settings.fusion,
        "train.model.heads": size.heads,
        "train.model.head_layers": size.head_layers,
        "train.tasks.cir.gated": settings.tasks.cir is not None and settings.tasks.cir.gated,
    }


def begin(init: Path, model: FusionModel, loaded: Sequence[str]) -> list[str]:
    """What is frozen was all loaded, and a copy of it reads the reference at first: returns its names."""
    frozen = [name for name, weights in model.named_parameters() if not weights.requires_grad]
    missing = [name for name in frozen if name.startswith(READ) and name not in loaded]
    if missing:
        raise MismatchError(
            init,
            "lacks weights that train.tasks.cir.static_bank freezes",
            found=f"{len(missing)} not there, or of another shape: {', '.join(missing[:3])}",
            fix="--init a run of cir with the same inputs, sizes and masking.fill",
        )
    head = cast(CirHead, model.heads["cir"])
    assert head.reader is not None
    if any(name.startswith(READER) for name in loaded):
        return []
    head.reader.follow(head)
    return [name for name, _ in model.named_parameters() if name.startswith(READER)]
