"""The bank of cir's second stage: every picture of the datasets that are trained on, looked at once."""

from collections.abc import Collection
from typing import cast

import torch
from torch import Tensor

from training.batching.eligible import Eligible, eligible
from training.batching.faults import ANCHOR
from training.batching.needs import Need
from training.config import Train
from training.heads.cir import CirHead
from training.model.model import FusionModel
from training.objectives.static_bank import StaticBank
from training.optimizing import device
from training.stream import Stream

NO_TEXT = Need(None, lambda _text: False)


def fill(
    model: FusionModel, stream: Stream, settings: Train, where: torch.device, skipped: Collection[str]
) -> list[str]:
    """Fill the head's bank; returns why pictures are left out of it. skipped: those that were before, as the
    run's state names them.

    What cannot be read is left out of the run too, so that one that goes on has the same bank.
    """
    head, rows = cast(CirHead, model.heads["cir"]), pictures(stream)
    looked = Stream(
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
        skipped=[name for name in skipped if not name.endswith(ANCHOR)],  # which have all but their negatives
    )
    vectors, group, key = list[Tensor](), list[Tensor](), list[Tensor]()
    model.eval()
    with torch.no_grad():
        for batch in looked.on(where):
            with device.autocast(where, settings.precision):
                vectors.append(head.targets(*model.trunk.picture(batch)))
            group.append(batch.group_ids())
            key.append(batch.key_ids())
    bank_of(model).fill(torch.cat(vectors), torch.cat(group), torch.cat(key))
    stream.faults.take(looked.faults, stream.position)
    return [error.text() for error in looked.faults.found.values()]


def pictures(stream: Stream) -> list[Eligible]:
    """Of the datasets that a stream trains on, with or without a text; held-out ones are among them."""
    trained = {dataset.dataset for dataset in stream.datasets}
    return [one for one in eligible(stream.shards, (), "train", 0.0) if one.dataset in trained]


def bank_of(model: FusionModel) -> StaticBank:
    """That of a model of the second stage."""
    bank = cast(CirHead, model.heads["cir"]).bank
    assert bank is not None
    return bank
