"""torch.compile of the parts that a step spends its time in, each by itself.

In place, so that weights keep their names, and with shapes left open: a batch's texts and their longest are
never the same for long. What decides by values which tensors to make stays as it is. With and without
gradient a part is two graphs; they draw the same dropout, as the gradient cache needs.
"""

import os
from importlib import import_module

from torch import nn
from torch._functorch import config as functorch

from contract.errors import ParamsError
from training.fusion.gated import GatedFusionModule
from training.modules.recompute import Block
from training.trunk.picture import FeatureNormalizer

PARTS = (Block, FeatureNormalizer, GatedFusionModule)


def compile_parts(model: nn.Module) -> None:
    """Compile on first use, which takes a minute or two. ParamsError where nothing could compile it."""
    _check_compiler()
    # each task's gradient on the trunk is a backward pass of its own, through the same graph
    functorch.donated_buffer = False
    for module in model.modules():
        if isinstance(module, PARTS):
            module.compile(dynamic=True)


def _check_compiler() -> None:
    """As the code generator will look for it. What it takes seconds to import, other runs do without."""
    builder = import_module("torch._inductor.cpp_builder")
    try:
        builder.get_cpp_compiler()
    except builder.exc.InvalidCxxCompiler:
        raise ParamsError(
            "train.model.compile",
            "needs a C++ compiler",
            found=f"{os.environ.get('CXX', 'g++')} is not there, or does not run",
            fix="install one, name it in CXX, or compile: false",
        ) from None
