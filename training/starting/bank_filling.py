"""The bank of cir's second stage: every picture of the datasets that are trained on, looked at once."""

from collections.abc import Collection
from pathlib import Path
from typing import cast

import msgspec
import torch
from torch import Tensor

from contract.codec import UNDECODABLE
from contract.errors import MismatchError, ShardError
from contract.files import write_atomic
from training.batching.eligible import Eligible, eligible
from training.batching.faults import NAME
from training.batching.needs import Need
from training.config import Train
from training.distributed import World
from training.heads.cir import CirHead
from training.model.model import FusionModel
from training.objectives.static_bank import StaticBank
from training.optimizing import device
from training.run import BANK
from training.stream import Stream

NO_TEXT = Need(None, lambda _text: False)


def fill(
    model: FusionModel, stream: Stream, settings: Train, where: torch.device, skipped: Collection[str]
) -> dict[str, str]:
    """Fill the head's bank; returns what could not be read, as `Stream.left_out`. skipped: that of before."""
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
        skipped=skipped,
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
    return looked.left_out()


def pictures(stream: Stream) -> list[Eligible]:
    """Of the datasets that a stream trains on, with or without a text; held-out ones are among them."""
    trained = {dataset.dataset for dataset in stream.datasets}
    return [one for one in eligible(stream.shards, (), "train", 0.0) if one.dataset in trained]


def without_feature(stream: Stream) -> int:
    """How many more pictures these datasets have, which an encoder could not take."""
    taken = pictures(stream)
    trained = {one.dataset for one in taken}
    everything = sum(len(shard.index) for shard in stream.shards.shards if shard.dataset in trained)
    return everything - sum(map(len, taken))


def bank_of(model: FusionModel) -> StaticBank:
    """That of a model of the second stage."""
    bank = cast(CirHead, model.heads["cir"]).bank
    assert bank is not None
    return bank


def left_out(run: Path) -> list[str]:
    """What the bank of a run was first filled without: it is so again, be that mended meanwhile."""
    path = run / BANK
    if not path.is_file():
        return []
    try:
        names = msgspec.json.decode(path.read_bytes(), type=list[str])
        if wrong := [name for name in names if not NAME.fullmatch(name)]:
            raise ValueError(f"'{wrong[0]}' is no shard:row")
        return names
    except (*UNDECODABLE, ValueError) as error:
        raise MismatchError(path, f"names no pictures: {error}", fix="put the file back") from None


def keep(run: Path, names: Collection[str], world: World) -> None:
    """What it is filled without now, which all processes must agree on."""
    told = msgspec.json.encode(sorted(names))
    if len(set(world.gather(told))) > 1:
        raise ShardError(
            run,
            "cannot fill the bank of cir: some processes cannot read what others can",
            fix="look at what each says; let all of them read the same files",
        )
    if names and world.first:
        write_atomic(run / BANK, told)
