"""Where tensors live, in what precision, and what to say where there is no room for them."""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from contract.errors import NoRoomError, ParamsError

KINDS = ("cpu", "cuda")  # that training is tried on
# in what torch raises where it has no class of its own for it
REFUSED = ("can't allocate memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")


def choose(name: str) -> torch.device:
    """`auto` is the first CUDA device if there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = _parsed(name)
    if device is None or device.type not in KINDS:
        raise ParamsError("--device", f"unknown device '{name}'", expected="auto, cpu, cuda or cuda:1")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ParamsError(
            "--device", "is not here", found=f"{name} of {torch.cuda.device_count()}", fix="--device cpu"
        )
    return device


def _parsed(name: str) -> torch.device | None:
    try:
        return torch.device(name)
    except RuntimeError:
        return None


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """bf16 autocast when asked for, or by `auto` where a CUDA device has it."""
    able = device.type == "cuda" and torch.cuda.is_bf16_supported()
    if precision == "bfloat16" or (precision == "auto" and able):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


BATCH = "lower optim.batch or raise optim.accumulate (of evaluate: --batch); model.checkpointing: true"
WEIGHTS = "lower model.hidden or the number of layers, or the slots of a bank"


@contextmanager
def enough_memory(fix: str = BATCH) -> Iterator[None]:
    """NoRoomError with this advice where torch cannot have the memory that it asks for."""
    try:
        yield
    except RuntimeError as error:
        known = isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in REFUSED)
        if not known:
            raise
        asked = re.search(r"allocate ([\d.]+ \w+)", str(error))
        said = asked and asked[0]
        raise NoRoomError("memory", "is not enough for these tensors", found=said, fix=fix) from None
