"""Where tensors live, and in what precision."""

from contextlib import AbstractContextManager, nullcontext

import torch

from contract.errors import ParamsError

KINDS = ("cpu", "cuda")  # that training is tried on


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
