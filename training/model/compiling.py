"""torch.compile of the parts that a step spends its time in, each by itself.

In place, so that weights keep their names, and with shapes left open: a batch's texts and their longest are
never the same for long. What decides by values which tensors to make stays as it is. With and without
gradient a part is two graphs; they draw the same dropout, as the gradient cache needs.
"""

import os
import shutil

from torch import nn
from torch._functorch import config as functorch

from contract.errors import ParamsError
from training.fusion.gated import GatedFusionModule
from training.modules.recompute import Block
from training.trunk.picture import FeatureNormalizer

PARTS = (Block, FeatureNormalizer, GatedFusionModule)


def compile_parts(model: nn.Module) -> None:
    """Compile on first use, which takes a minute or two. ParamsError where nothing could compile it."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise ParamsError(
            "train.model.compile",
            "needs a C++ compiler",
            found=f"no {compiler}",
            fix="install one, name it in CXX, or compile: false",
        )
    # each task's gradient on the trunk is a backward pass of its own, through the same graph
    functorch.donated_buffer = False
    for module in model.modules():
        if isinstance(module, PARTS):
            module.compile(dynamic=True)
