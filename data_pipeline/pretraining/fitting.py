"""Train a small encoder of the demo on generated pictures: each cell must tell what stands in it.

B batch, R regions, K kinds of label, S side of the input, N cells, D channels. One thread, a fixed number of
steps and hashed seeds: the same pictures give the same bytes.
"""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from msgspec import Struct, structs
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from contract import params, seeds
from data_pipeline.features import encode, encoder_weights
from data_pipeline.features.encode import Pixels, normalise, pool
from data_pipeline.features.token_encoder import TokenEncoder
from data_pipeline.features.transforms import transform
from data_pipeline.pretraining import cell_examples
from data_pipeline.pretraining.cell_examples import CLASSES, UNKNOWN, Boxes, Examples

MARGIN = 1 / 8  # of the side: how far a picture is shifted at random, so that places are not learned by heart
WARM_UP = 0.1  # share of the steps
WEIGHT_DECAY = 0.05
BETAS = (0.9, 0.98)
MAX_NORM = 1.0  # of the gradient
CLS_WEIGHT = 0.2
NAME_WEIGHT, BACKGROUND_WEIGHT = 2.0, 0.3  # three cells in four are background
MUON_RATE = 3.3  # times the learning rate
SAID = 100  # steps between two lines of progress


class Task(Struct):
    """One encoder to train. world: the folder of the generated raw data."""

    encoder: str
    settings: params.Encoder
    plan: params.Pretrain
    seed: int
    world: str


@dataclass(frozen=True)
class Pretrained:
    """weights: the encoder's own. pictures: how many it saw. loss: mean of the last SAID steps."""

    weights: dict[str, Tensor]
    pictures: int
    loss: float


def pretrain(task: Task) -> Pretrained:
    """Train one encoder from fresh weights."""
    torch.set_num_threads(1)
    fresh = structs.replace(task.settings, weights=encoder_weights.RANDOM)
    model = encode.load(fresh).model.requires_grad_(True)
    pictures = list(cell_examples.shown(Path(task.world), "train"))
    examples = cell_examples.examples(pictures, lambda pixels: transform(pixels, fresh.transform, fresh.size))
    losses = []
    for loss in train(model, examples, task.settings.grid, task.plan, task.seed):
        losses.append(loss)
        if len(losses) % SAID == 0:
            mean = np.mean(losses[-SAID:])
            print(f"pretrain {task.encoder}: step {len(losses)}, loss {mean:.3f}", file=sys.stderr)
    return Pretrained(model.state_dict(), len(examples), round(float(np.mean(losses[-SAID:])), 4))


class Heads(nn.Module):
    """Linear readers of the tokens, thrown away afterwards."""

    def __init__(self, width: int) -> None:
        super().__init__()
        background = [1, *[0] * (len(CLASSES) - 1)]
        self.kinds = nn.ModuleList(
            nn.Linear(width, count + extra) for count, extra in zip(CLASSES, background, strict=True)
        )
        self.box = nn.Linear(width, 4)
        self.pairs = nn.Linear(width, CLASSES[0] * CLASSES[1])


def train(
    model: TokenEncoder, examples: Examples, grid: int, plan: params.Pretrain, seed: int
) -> Iterator[float]:
    """Train the encoder in place; yields the loss of each step."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.seed64(seed, "pretrain", "heads"))
        heads = Heads(model.width)
    optimizers = _optimizers(model, heads, plan.learning_rate)
    schedules = [LambdaLR(optimizer, lambda step: _share(step / plan.steps)) for optimizer in optimizers]
    model.train()
    for step in range(plan.steps):
        loss = step_loss(model, heads, draw(examples, plan.batch, step, seed), grid)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        yield loss.item()
    model.eval()


def _optimizers(model: TokenEncoder, heads: Heads, rate: float) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices of the blocks, AdamW for the rest.

    Steps are few: after 400 of 32 pictures AdamW alone named 47 % of the cells with a thing, this 75 %.
    """
    named = dict(model.named_parameters())
    inner = [value for name, value in named.items() if "blocks." in name and value.ndim == 2]
    outer = [value for name, value in named.items() if not ("blocks." in name and value.ndim == 2)]
    return [
        torch.optim.Muon(inner, rate * MUON_RATE, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([*outer, *heads.parameters()], rate, BETAS, weight_decay=WEIGHT_DECAY),
    ]


def _share(done: float) -> float:
    """The rate as a share of its peak: linear warm-up, then half a cosine. done: share of the steps."""
    if done < WARM_UP:
        return done / WARM_UP + 1e-3
    return 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


def step_loss(model: TokenEncoder, heads: Heads, batch: Examples, grid: int) -> Tensor:
    """What the cells must tell: name, colour, material, size, the box; and the CLS which pairs there are."""
    tokens = pool(model(normalise(torch.from_numpy(batch.inputs), model)), model.has_cls, grid)
    loss = cell_loss(heads, tokens[:, model.has_cls :], batch)
    if model.has_cls:
        wanted = torch.from_numpy(cell_examples.pairs_present(batch.labels))
        pairs = functional.binary_cross_entropy_with_logits(heads.pairs(tokens[:, 0]), wanted)
        loss = loss + CLS_WEIGHT * pairs
    return loss


def cell_loss(heads: Heads, cells_BND: Tensor, batch: Examples) -> Tensor:
    """The name is asked of every cell, the rest where a region stands. Names are hardest and weigh most."""
    grid = round(cells_BND.shape[1] ** 0.5)
    labels = torch.from_numpy(cell_examples.cell_labels(batch.boxes, batch.labels, grid))
    boxes = torch.from_numpy(cell_examples.cell_boxes(batch.boxes, grid))
    name, *others = heads.kinds
    weight = torch.tensor([BACKGROUND_WEIGHT, *[1.0] * CLASSES[0]])
    loss = NAME_WEIGHT * _entropy(name(cells_BND), labels[..., 0], weight)
    for kind, head in enumerate(others, 1):
        loss = loss + _entropy(head(cells_BND), labels[..., kind])
    here = labels[..., 0] > 0
    off = functional.smooth_l1_loss(heads.box(cells_BND[here]), boxes[here], reduction="sum")
    return loss / len(CLASSES) + off / (4 * max(int(here.sum()), 1))


def _entropy(logits_BNC: Tensor, labels_BN: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean cross entropy over the cells whose label is known; 0 where there is none."""
    if (labels_BN == UNKNOWN).all():
        return logits_BNC.new_zeros(())
    return functional.cross_entropy(
        logits_BNC.flatten(0, 1), labels_BN.flatten(), weight, ignore_index=UNKNOWN
    )


def draw(examples: Examples, batch: int, step: int, seed: int) -> Examples:
    """Batch number `step`, each picture mirrored and shifted at random."""
    rows = batch_rows(len(examples), batch, step, seed)
    random = seeds.rng(seed, "pretrain", "views", step)
    side = examples.inputs.shape[1]
    reach = int(side * MARGIN)
    shifts = random.integers(-reach, reach + 1, (batch, 2))
    mirrored = random.random(batch) < 0.5
    views = [
        _view(examples.inputs[row], right, down, flip)
        for row, (right, down), flip in zip(rows, shifts.tolist(), mirrored.tolist(), strict=True)
    ]
    boxes = examples.boxes[rows] - np.tile(shifts, 2)[:, None] / side
    boxes = np.where(mirrored[:, None, None], _mirror(boxes), boxes)
    return Examples(np.stack(views), boxes, examples.labels[rows])


def batch_rows(count: int, batch: int, step: int, seed: int) -> NDArray[np.int64]:
    """Places step·B … (step + 1)·B of an endless row of shuffled passes over the examples."""
    places = np.arange(step * batch, (step + 1) * batch)
    passes = np.unique(places // count).tolist()
    order = np.concatenate([seeds.rng(seed, "pretrain", "order", one).permutation(count) for one in passes])
    return order[places - passes[0] * count]


def _view(picture: Pixels, right: int, down: int, mirrored: bool) -> Pixels:
    """The picture seen from so many pixels further, its edge repeated."""
    side = len(picture)
    across = np.clip(np.arange(side) + right, 0, side - 1)
    along = np.clip(np.arange(side) + down, 0, side - 1)
    return picture[along[:, None], across[::-1] if mirrored else across]


def _mirror(boxes_BR4: Boxes) -> Boxes:
    x0, y0, x1, y1 = np.moveaxis(boxes_BR4, -1, 0)
    return np.stack([1 - x1, y0, 1 - x0, y1], axis=-1)
