"""What a run will read, keep in memory and write, and how long its data alone takes: `fit --plan`."""

import time
from io import SEEK_END
from itertools import islice
from pathlib import Path

from torch import Tensor, nn

from contract.tar import open_shard
from training.batch import Batch
from training.config import Masking, Optim
from training.shards import ShardSet
from training.stream import Stream

MIB = 1 << 20
READ_SECONDS = 2.0  # of the trial read
CHECKPOINTS = 2  # kept on disk: the last and the best
MOMENTS = 2  # of AdamW, of each trained weight


def lines(shards: ShardSet, stream: Stream, model: nn.Module, optim: Optim, steps: int) -> list[str]:
    """The forecast, a line each. Reads a few batches, and leaves the stream's position as it was."""
    first, seconds = _trial(stream)
    rate = stream.batch / seconds
    trained, kept = trained_bytes(model), checkpoint_bytes(model, optim)
    accumulate = optim.accumulate
    held = (stream.ahead + accumulate) * batch_bytes(first)
    return [
        f"step     {accumulate * batch_bytes(first) / MIB:,.1f} MiB read, of which "
        f"{accumulate * moved_bytes(first, stream.mask) / MIB:,.1f} MiB move to a GPU, "
        f"{stream.batch * accumulate} pictures",
        f"reading  {rate:,.0f} pictures/s here and now; an epoch of data takes {len(stream) / rate:,.0f} s, "
        f"the whole run {steps * accumulate * seconds:,.0f} s",
        f"memory   {held / MIB:,.0f} MiB of batches, "
        f"{(kept + trained) / MIB:,.0f} MiB of weights, gradients and moments",
        f"disk     {disk_bytes(shards, stream) / MIB:,.0f} MiB of shards are read, "
        f"{CHECKPOINTS * kept / MIB:,.0f} MiB of checkpoints are kept",
        f"first    {', '.join(first.keys[:3])}",
        f"last     {', '.join(_last(stream, steps * accumulate)[-3:])}",
    ]


def bank_line(pictures: int, bank: Tensor) -> str:
    """What a static bank takes. bank: its vectors [0,K,W] before it is filled."""
    held = pictures * bank.shape[1] * bank.shape[2] * bank.element_size() / MIB
    return (
        f"bank     {pictures:,} pictures are read before the first step; their vectors take {held:,.1f} MiB"
    )


def _trial(stream: Stream) -> tuple[Batch, float]:
    """The first batch, and the seconds that each of the following takes."""
    begun, batches = stream.position, iter(stream)
    first, started, count = next(batches), time.perf_counter(), 0
    while time.perf_counter() - started < READ_SECONDS:
        next(batches)
        count += 1
    seconds = (time.perf_counter() - started) / count
    batches.close()
    stream.position = begun
    return first, seconds


def _last(stream: Stream, batches: int) -> list[str]:
    """The anchors of the last batch of so many, found without reading a byte."""
    (span,) = islice(stream.spans(), batches - 1, batches)
    return [stream.planner.key(place) for place in stream.planner.rows(span)[0]]


def checkpoint_bytes(model: nn.Module, optim: Optim) -> int:
    """Of all weights and buffers, and of the moments, and the mean if there is one, of those trained."""
    copies = MOMENTS + (optim.ema is not None)
    return sum(tensor.nbytes for tensor in model.state_dict().values()) + copies * trained_bytes(model)


def trained_bytes(model: nn.Module) -> int:
    """Of the weights that have a gradient."""
    return sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)


def batch_bytes(batch: Batch) -> int:
    """Of all features of a batch."""
    return sum(tensor.nbytes for tensors in (batch.features, batch.scales) for tensor in tensors.values())


def moved_bytes(batch: Batch, mask: Masking) -> int:
    """Of the features that travel to a device: where masked tokens are dropped, the visible ones."""
    if not mask.drops:
        return batch_bytes(batch)
    tokens = sum(
        int(batch.visible[name].sum()) * features[0, 0].nbytes for name, features in batch.features.items()
    )
    return tokens + sum(scales.nbytes for scales in batch.scales.values())


def disk_bytes(shards: ShardSet, stream: Stream) -> int:
    """Of all tars that are read: records, columns and mined negatives, which may share one."""
    tars = {shard.path for shard in shards.shards}
    tars |= {column.path for shard in shards.shards for column in shard.columns.values()}
    if stream.planner.mined:
        tars |= {shards.source.mined(shard.path) for shard in shards.shards}
    return sum(map(_size, tars))


def _size(path: Path) -> int:
    with open_shard(path) as file:
        return file.seek(0, SEEK_END)
