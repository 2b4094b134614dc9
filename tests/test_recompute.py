"""Activation checkpointing and compilation: less memory, more speed, the same numbers and names."""

import subprocess
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
import statements
import synthetic
import torch
from test_fit import HERE, losses, train, weights

from contract.errors import ParamsError
from training import run
from training.config import Itm
from training.fusion import registry
from training.fusion.registry import Shape
from training.heads.itm import ItmHead
from training.model.compiling import PARTS, compile_parts
from training.modules.attention import ByPicture, CrossBlock, SelfBlock
from training.modules.recompute import Block, recompute
from training.optimizing import checkpoint


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    synthetic.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Stack(torch.nn.Module):
    """A text that looks at a picture of two fused inputs, twice."""

    def __init__(self, fusion: torch.nn.Module) -> None:
        super().__init__()
        self.fusion = fusion
        self.read = SelfBlock(16, 2, 0.3)
        self.look = torch.nn.ModuleList(CrossBlock(16, 2, 0.3) for _ in range(2))

    def forward(self, text, mask, picture, visible, where):
        picture = self.fusion(picture, picture.flip(0), visible, visible.flip(0))
        text = self.read(text, mask)
        for block in self.look:
            text = block(text, mask, picture, visible, where, text.shape[1])
        return text


def inputs() -> tuple:
    torch.manual_seed(1)
    rows = torch.tensor([0, 2, 2, 1, 0])
    text, picture = torch.randn(5, 4, 16), torch.randn(3, 6, 16)
    mask, visible = torch.rand(5, 4) > 0.2, torch.rand(3, 6) > 0.3
    return text, mask, picture, visible, ByPicture(rows, 3)


def gradients(stack: Stack) -> dict[str, torch.Tensor]:
    stack.zero_grad()
    torch.manual_seed(2)  # of the dropout
    stack(*inputs()).square().mean().backward()
    used = [(name, parameter) for name, parameter in stack.named_parameters() if parameter.grad is not None]
    return {name: parameter.grad.clone() for name, parameter in used}


def kept_bytes(module: torch.nn.Module, *given) -> int:
    """What the graph of a forward pass holds on to."""
    held: dict[int, int] = {}

    def note(tensor):
        held[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        module(*given)
    return sum(held.values())


def fusion(kind: str) -> torch.nn.Module:
    return registry.kind(kind).build(Shape(16, 2, 0.3, alpha=0.5, layers=3, separate=1, repeats=2))


@pytest.mark.parametrize("kind", registry.FUSIONS)
def test_gradients_are_equal_with_dropout_and_less_is_kept(kind):
    stack = Stack(fusion(kind))
    plain, held = gradients(stack), kept_bytes(stack, *inputs())
    recompute(stack)
    again = gradients(stack)
    assert again.keys() == plain.keys()
    assert all(torch.equal(again[name], gradient) for name, gradient in plain.items())
    assert kept_bytes(stack, *inputs()) < held / 2


@pytest.mark.parametrize("kind", ["difnet", "cross_attention"])
def test_the_layers_of_a_fusion_are_recomputed_too(kind):
    fused, (_, _, picture, visible, _) = fusion(kind), inputs()
    given = picture, picture.flip(0), visible, visible.flip(0)
    held = kept_bytes(fused, *given)
    recompute(fused)
    assert kept_bytes(fused, *given) < held / 3


def test_a_run_is_the_same_to_the_bit(world):
    """Two tasks: each one's gradient on the trunk is a backward pass of its own."""
    statements.build(world)
    tasks = ["tasks.itc={}", "tasks.itm={}", "optim.accumulate=2", "optim.epochs=1"]
    train("--run", "runs/plain", "--set", *tasks)
    train("--run", "runs/again", "--set", *tasks, "model.checkpointing=true")
    assert losses(Path("runs/plain")) == losses(Path("runs/again"))
    assert weights(Path("runs/plain")) == weights(Path("runs/again"))


def test_every_attention_block_of_texts_and_heads_can_be_recomputed(world):
    train("--run", "runs/a", "--set", "optim.epochs=0.2", "model.checkpointing=true")
    model = run.trained_model(run.open_run(Path("runs/a")), "last")
    blocks = [name for name, module in model.named_modules() if isinstance(module, Block)]
    assert {name.rpartition(".")[0] for name in blocks} >= {"trunk.text.blocks", "heads.vqa.blocks"}
    assert all(model.get_submodule(name).recomputed for name in blocks)


@pytest.fixture
def traced(monkeypatch):
    """torch.compile without its code generator, which takes minutes here; what it traces is the same."""
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    yield
    torch._dynamo.reset()


def test_a_block_is_traced_whole_whatever_the_sizes_and_keeps_its_names(traced):
    block = CrossBlock(16, 2, 0.0)
    names = list(block.state_dict())
    compile_parts(block)
    counted = torch._dynamo.utils.counters
    counted.clear()
    for texts, pictures, words in ((5, 3, 4), (9, 4, 6), (30, 2, 7), (4, 4, 5)):
        rows = torch.randint(pictures, (texts,))
        text, mask = torch.randn(texts, words, 16), torch.ones(texts, words, dtype=torch.bool)
        picture, visible = torch.randn(pictures, 6, 16), torch.ones(pictures, 6, dtype=torch.bool)
        given = (text, mask, picture, visible, ByPicture(rows, pictures), words)
        found, plain = (
            torch.autograd.grad(run(*given).square().sum(), list(block.parameters()))
            for run in (block, block.forward)
        )
        assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(found, plain, strict=True))
    assert not counted["graph_break"]
    assert counted["stats"]["unique_graphs"] <= 2
    assert list(block.state_dict()) == names


def test_itms_picture_side_is_recomputed_too():
    head = ItmHead(16, 2, 1, 0.3, Itm(two_way=True))
    recompute(head)
    assert head.back.recomputed


@pytest.mark.parametrize("kind", ["difnet", "cross_attention"])
def test_the_layers_of_a_fusion_are_traced_whole(kind, traced):
    fused, (_, _, picture, visible, _) = fusion(kind).eval(), inputs()
    given = picture, picture.flip(0), visible, visible.flip(0)
    plain = fused(*given)
    counted = torch._dynamo.utils.counters
    counted.clear()
    compile_parts(fused)
    assert torch.allclose(fused(*given), plain, atol=1e-5)
    assert counted["stats"]["unique_graphs"] and not counted["graph_break"]


def test_a_compiled_run_leaves_a_checkpoint_that_any_other_reads(world, traced):
    train("--run", "runs/a", "--set", "optim.epochs=0.4", "model.compile=true", "model.dropout=0")
    train("--run", "runs/b", "--set", "optim.epochs=0.4", "model.dropout=0")
    compiled, plain = (checkpoint.find(Path(f"runs/{n}"), "last") for n in "ab")
    names = [set(weights(Path(f"runs/{n}"))) for n in "ab"]
    assert names[0] == names[1] and compiled.name == plain.name
    model = run.trained_model(run.open_run(Path("runs/a")), "last")
    assert any(isinstance(module, PARTS) for module in model.modules())
    for (_, a), (_, b) in zip(losses(Path("runs/a")), losses(Path("runs/b")), strict=True):
        assert float(a) == pytest.approx(float(b), rel=1e-4)


@pytest.mark.gpu  # a CPU's code generator takes a minute of it; it draws the same too
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("mixed", [False, True])
def test_compiled_the_dropout_is_the_same_with_and_without_gradient(mixed):
    """The gradient cache goes over a part twice, and must meet the same vectors."""
    block = SelfBlock(32, 2, 0.3).cuda()
    compile_parts(block)
    for texts in (5, 9):
        given = torch.randn(texts, 7, 32).cuda(), torch.ones(texts, 7, dtype=torch.bool).cuda()
        made = []
        for with_gradient in (False, True):
            torch.manual_seed(3)
            cast = torch.autocast("cuda", torch.bfloat16, enabled=mixed)
            with torch.set_grad_enabled(with_gradient), cast:
                made.append(block(*given))
        torch.testing.assert_close(*made, rtol=0.01, atol=0.01)  # graphs round each in its way


def test_a_process_that_has_compiled_nothing_yet_can():
    """Torch does not load by itself what it is told of compiling."""
    code = "import training.fit, training.model.compiling as c, torch; c.compile_parts(torch.nn.Identity())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=HERE)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("compiler", ["no-such-compiler", "/bin/false"])
def test_without_a_compiler_it_is_said_before_anything_is_made(world, compiler):
    inductor = import_module("torch._inductor.config")
    refused = pytest.raises(ParamsError, match=r"train\.model\.compile: needs a C\+\+ compiler")
    with inductor.patch({"cpp.cxx": (None, compiler)}), refused:
        train("--run", "runs/a", "--set", "model.compile=true")
    assert not Path("runs").exists()
