"""A run as one of its processes does it."""

from pathlib import Path

import torch
from msgspec import Struct

from training.config import Train
from training.distributed import ALONE, World


class Job(Struct, frozen=True):
    """folder: of the run; where: the device that the model is on; world: who shares the steps."""

    settings: Train
    seed: int
    folder: Path
    where: torch.device
    world: World = ALONE
