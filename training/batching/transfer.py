"""Batches onto a CUDA device, by a stream of their own, while the step works on an earlier one.

A host buffer is used again only when its copy has ended: what holds it is let go no earlier than that.
"""

from collections import defaultdict
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

import torch
from msgspec import Struct

from training.batch import Batch
from training.batching.packing import Packed, pack
from training.reading.buffers import Buffers
from training.reading.meter import Meter

Batches = Generator[tuple[int, Batch | None], None, None]  # the position after each; None: nothing was left


class Sent(Struct):
    """A batch on the device whose copies may still run. source: what they read; end: what follows them."""

    position: int
    batch: Batch | None
    source: Batch | Packed | None = None
    end: torch.cuda.Event | None = None


class Transfer:
    """Copies batches to a device; on the CPU there is nothing to copy. packed: only visible tokens travel."""

    def __init__(self, device: torch.device, meter: Meter, packed: bool) -> None:
        self._device, self._meter, self._packed = device, meter, packed
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._pools: defaultdict[str, Buffers] = defaultdict(partial(Buffers, pinned=device.type == "cuda"))

    def ahead(self, batches: Batches) -> Batches:
        """The same batches on the device: the next is made and copied by a thread while one is out."""
        with closing(batches), ThreadPoolExecutor(1, "device") as thread:
            following = thread.submit(self._send, batches)
            try:
                while (sent := following.result()) is not None:
                    following = thread.submit(self._send, batches)
                    yield sent.position, self._receive(sent)
            finally:
                following.cancel()

    def _send(self, batches: Batches) -> Sent | None:
        """Begin the copies of the next batch; None after the last."""
        position, batch = next(batches, (None, None))
        if position is None or batch is None:
            return None if position is None else Sent(position, None)
        source = self._pack(batch) if self._packed else batch
        with torch.cuda.stream(self._stream):
            moved = source.to(self._device, non_blocking=True)
            return Sent(position, moved, source, self._stream.record_event() if self._stream else None)

    def _pack(self, batch: Batch) -> Packed:
        with self._meter.measure("copy"):
            return pack(batch, self._pools)

    def _receive(self, sent: Sent) -> Batch | None:
        """Wait for the copies and let go what they read; what they wrote is the step's from now on."""
        if sent.batch is not None and sent.end is not None:
            with self._meter.measure("device"):
                sent.end.synchronize()
            for tensor in sent.batch.tensors():
                tensor.record_stream(torch.cuda.current_stream(self._device))
        sent.source = None
        return sent.batch
