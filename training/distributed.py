"""The processes of one run, as torchrun starts them: who this one is, and what they tell each other.

Tensors on the CPU go by gloo, those on a CUDA device by nccl. A run of one process talks to nobody.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import timedelta
from itertools import accumulate

import torch
import torch.distributed as dist
from msgspec import Struct
from torch import Tensor

from contract.errors import ParamsError, TrainingError

PATIENCE = timedelta(days=1)  # while the first process evaluates; one that dies is noticed at once
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")


class PeerError(TrainingError):
    """Another process of the run is gone, and has said why."""


class World(Struct, frozen=True):
    """rank: of this process among `size`; local: among those of its machine."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def add(self, tensor: Tensor) -> None:
        """Each number becomes the sum over all processes, in place."""
        if self.size > 1:
            with _peers():
                dist.all_reduce(tensor)

    def join(self, parts: Mapping[int, Tensor], lengths: Sequence[int], empty: Tensor) -> Tensor:
        """The rows [n,…] of all parts of a step in their order, on every process. parts: its own, by number.

        lengths: n of every part. empty: none of their rows, [0,…]. Each process fills what it has into a
        table of zeros, and the tables are added up: rows arrive bit for bit, from wherever they come.
        """
        table, ends = empty.new_zeros(sum(lengths), *empty.shape[1:]), list(accumulate(lengths))
        for number, rows in parts.items():
            table[ends[number] - lengths[number] : ends[number]] = rows
        if len(table):
            self.add(table)
        return table

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Each tensor becomes that of the first process, in place."""
        if self.size > 1:
            with _peers():
                for tensor in tensors:
                    dist.broadcast(tensor, 0)

    def gather(self, told: bytes) -> list[bytes]:
        """What each process tells, which is never nothing, in the order of their ranks."""
        if self.size == 1:
            return [told]
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = len(told)
        self.add(lengths)
        table = torch.zeros(self.size, int(lengths.max()), dtype=torch.uint8)
        table[self.rank, : len(told)] = torch.frombuffer(bytearray(told), dtype=torch.uint8)
        self.add(table)
        return [row[:length].numpy().tobytes() for row, length in zip(table, lengths.tolist(), strict=True)]


ALONE = World()


def find() -> World:
    """What torchrun says of this process in its environment; without it the process is alone."""
    found = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    if "RANK" not in found:
        return ALONE
    if len(found) < len(VARIABLES) or not all(value.isdecimal() for value in found.values()):
        raise ParamsError(
            "the environment",
            "says by halves which process this is",
            found=", ".join(f"{name}={value}" for name, value in found.items()),
            expected=", ".join(VARIABLES),
            fix="start it by torchrun, or unset RANK",
        )
    world = World(*(int(found[name]) for name in VARIABLES))
    if world.rank >= world.size:
        raise ParamsError(
            "the environment",
            "gives this process a rank that is none",
            found=f"RANK={world.rank}",
            expected=f"below WORLD_SIZE={world.size}",
            fix="start it by torchrun, or unset RANK",
        )
    return world


def device(world: World, chosen: torch.device) -> torch.device:
    """The device of this process: with CUDA, each of a machine has its own."""
    if world.size == 1 or chosen.type != "cuda":
        return chosen
    if chosen.index is not None:
        raise ParamsError("--device", "is one for all processes", found=str(chosen), fix="--device cuda")
    if world.local >= torch.cuda.device_count():
        raise ParamsError(
            "torchrun",
            "starts more processes than there are CUDA devices",
            found=f"process {world.local + 1} of {torch.cuda.device_count()}",
            fix=f"--nproc-per-node {torch.cuda.device_count()}, or --device cpu",
        )
    torch.cuda.set_device(world.local)
    return torch.device("cuda", world.local)


@contextmanager
def joined(world: World, where: torch.device) -> Iterator[None]:
    """While it is entered the processes can talk; the first alone has a standard output.

    When another process has failed, the first says so and the rest end in silence: one error is enough.
    """
    if world.size == 1:
        yield
        return
    _meet("cpu:gloo,cuda:nccl" if where.type == "cuda" else "gloo")
    try:
        with redirect_stdout(sys.stdout if world.first else None):
            yield
        world.gather(b"done")  # nobody leaves while another may still tell
    except PeerError as error:
        if world.first:
            raise
        raise SystemExit(error.status) from None
    dist.destroy_process_group()


def _meet(backend: str) -> None:
    try:
        dist.init_process_group(backend, timeout=PATIENCE)
    except (ValueError, RuntimeError) as error:  # an address is missing, wrong, or taken
        raise ParamsError(
            "the environment",
            "does not lead to the other processes of this run",
            found=str(error).splitlines()[0],
            fix="start it by torchrun",
        ) from None


@contextmanager
def _peers() -> Iterator[None]:
    """An error of the connection is one of another process."""
    try:
        yield
    except RuntimeError as error:
        raise PeerError(
            "training",
            "another process of this run has ended",
            found=str(error).splitlines()[0],
            fix="its own error stands above, or in its log; mend that, then go on by --resume",
        ) from None
