"""Where tensors live, and in what precision."""

from contextlib import AbstractContextManager, nullcontext

import torch

from contract.errors import ParamsError


def choose(name: str) -> torch.device:
    """`auto` is the first CUDA device if there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ParamsError(
            "--device", f"unknown device '{name}'", expected="auto, cpu, cuda or cuda:1"
        ) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ParamsError("--device", "no CUDA device here", found=name, fix="--device cpu")
    return device


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """bf16 autocast when asked for, or by `auto` where a CUDA device has it."""
    able = device.type == "cuda" and torch.cuda.is_bf16_supported()
    if precision == "bfloat16" or (precision == "auto" and able):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
