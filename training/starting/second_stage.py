"""The second stage of cir: what it freezes comes of another run, and its bank is made before it begins."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from contract.errors import MismatchError, ParamsError
from training import run
from training.batching.eligible import eligible
from training.batching.needs import Need
from training.config import Train
from training.heads.cir import CirHead
from training.model.model import FusionModel
from training.optimizing import device
from training.stream import Stream

READ = ("trunk.picture.", *(f"heads.cir.{part}" for part in ("queries", "read.", "norm_read.", "target.")))
READER = "heads.cir.reader."
NO_TEXT = Need(None, lambda _text: False)


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


def begin(init: Path, model: FusionModel, settings: Train, loaded: Sequence[str]) -> None:
    """What is frozen was all loaded and is used as it was trained; so is what reads the reference."""
    before, now = (_frozen(of) for of in (run.open_run(init).settings, settings))
    if differing := [name for name in now if before[name] != now[name]]:
        raise MismatchError(
            init,
            "was trained with other settings of what train.tasks.cir.static_bank freezes",
            found="; ".join(f"{name} {now[name]}" for name in differing),
            expected="; ".join(f"{name} {before[name]}" for name in differing),
            fix="set them as in the config.json of that run",
        )
    frozen = [name for name, weights in model.named_parameters() if not weights.requires_grad]
    missing = [name for name in frozen if name.startswith(READ) and name not in loaded]
    if missing:
        raise MismatchError(
            init,
            "lacks weights that train.tasks.cir.static_bank freezes",
            found=f"{len(missing)} not there, or of another shape: {', '.join(missing[:3])}",
            fix="--init a run of cir with the same inputs and sizes",
        )
    head = cast(CirHead, model.heads["cir"])
    assert head.reader is not None
    if not any(name.startswith(READER) for name in loaded):
        head.reader.follow(head)


def _frozen(settings: Train) -> dict[str, object]:
    """The settings that frozen weights of the same shape mean nothing without."""
    size = settings.model
    return {
        "train.inputs": settings.inputs,
        "train.fusion": settings.fusion,
        "train.model.heads": size.heads,
        "train.model.head_layers": size.head_layers,
    }


def fill_bank(model: FusionModel, stream: Stream, settings: Train, where: torch.device) -> int:
    """Look at every picture of the datasets that the stream trains on; returns how many there are."""
    head, trained = cast(CirHead, model.heads["cir"]), {dataset.dataset for dataset in stream.datasets}
    assert head.bank is not None
    rows = [one for one in eligible(stream.shards, (), "train", 0.0) if one.dataset in trained]
    pictures = Stream(
        stream.shards,
        {"cir": NO_TEXT},
        batch=settings.optim.batch // settings.optim.accumulate,
        shuffle="none",
        rows=rows,
        stop=sum(map(len, rows)),
        threads=settings.threads,
        ahead=settings.ahead,
        on_error=settings.on_error,
        max_skipped=settings.max_skipped,
    )
    vectors, group, key = list[Tensor](), list[Tensor](), list[Tensor]()
    model.eval()
    with torch.no_grad():
        for batch in pictures.on(where):
            with device.autocast(where, settings.precision):
                vectors.append(head.targets(*model.trunk.picture(batch)))
            group.append(batch.group_ids())
            key.append(batch.key_ids())
    head.bank.fill(torch.cat(vectors), torch.cat(group), torch.cat(key))
    return len(head.bank.group)
