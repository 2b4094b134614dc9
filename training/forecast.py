"""What a run will read, keep in memory and write, and how long its data alone takes: `fit --plan`."""

import time
from itertools import islice

from torch import nn

from training.batch import Batch
from training.config import Masking
from training.shards import ShardSet
from training.stream import Stream

MIB = 1 << 20
READ_SECONDS = 2.0  # of the trial read
CHECKPOINTS = 2  # kept on disk: the last and the best
COPIES = 3  # of each weight in a checkpoint: itself and two moments of AdamW


def lines(shards: ShardSet, stream: Stream, model: nn.Module, accumulate: int, steps: int) -> list[str]:
    """The forecast, a line each. Reads a few batches, and leaves the stream's position as it was."""
    first, seconds = _trial(stream)
    rate = stream.batch / seconds
    weights = sum(parameter.nbytes for parameter in model.parameters())
    held = (stream.ahead + accumulate) * batch_bytes(first)
    return [
        f"step     {accumulate * batch_bytes(first) / MIB:,.1f} MiB read, of which "
        f"{accumulate * moved_bytes(first, stream.mask) / MIB:,.1f} MiB move to a GPU, "
        f"{stream.batch * accumulate} pictures",
        f"reading  {rate:,.0f} pictures/s here and now; an epoch of data takes {len(stream) / rate:,.0f} s, "
        f"the whole run {steps * accumulate * seconds:,.0f} s",
        f"memory   {held / MIB:,.0f} MiB of batches, "
        f"{(COPIES + 1) * weights / MIB:,.0f} MiB of weights, gradients and moments",
        f"disk     {_bytes(shards) / MIB:,.0f} MiB of shards are read, "
        f"{CHECKPOINTS * COPIES * weights / MIB:,.0f} MiB of checkpoints are kept",
        f"first    {', '.join(first.keys[:3])}",
        f"last     {', '.join(_last(stream, steps * accumulate)[-3:])}",
    ]


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


def _bytes(shards: ShardSet) -> int:
    return sum(
        shard.index.tar_bytes + sum(column.index.tar_bytes for column in shard.columns.values())
        for shard in shards.shards
    )
