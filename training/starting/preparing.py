"""A run that is not made yet: its settings, shards, rows and model, with nothing left to be refused."""

import argparse

import torch
from msgspec import Struct

from contract.seeds import seed64
from training import blindness, preset, run
from training.config import Train
from training.distributed import ALONE, World
from training.model.compiling import compile_parts
from training.model.model import FusionModel
from training.optimizing import device, optim
from training.optimizing.checkpoint import State
from training.optimizing.development import check_asked
from training.settings import load
from training.shards import ShardSet
from training.starting import initial_weights, opening, second_stage
from training.starting.checks import check_settings, check_streams
from training.starting.streams import streams
from training.stream import Stream

FEW = 16  # held-out pictures that may well ask nothing, and are soon scored


class Prepared(Struct):
    """All of a run but its folder. development is None where no picture is held out."""

    settings: Train
    seed: int
    shards: ShardSet
    model: FusionModel
    stream: Stream
    development: Stream | None


def prepare(options: argparse.Namespace, world: World = ALONE) -> Prepared:
    """What the command asks for, checked, with fresh weights or those of another run."""
    settings, seed, shards = opened(options, world)
    new = over(shards, settings, seed, State(step=0, position=0, asked=[]), world)
    if options.init:
        initial_weights.take(options.init, new.model, settings, shards)
    if new.development is not None and len(new.development) <= FEW and not settings.model.compile:
        _, unread = streams(shards, settings, seed, State(step=0, position=0, asked=[]), world)
        if unread is not None:
            check_asked(new.model, unread, settings)
    return new


def over(shards: ShardSet, settings: Train, seed: int, state: State, world: World) -> Prepared:
    """The same over opened shards, its rows from where the run stands."""
    stream, development = streams(shards, settings, seed, state, world)
    check_streams(settings, stream, development)
    model = _fresh_model(settings, seed, shards)
    optim.check_groups(model, settings.optim.groups)
    return Prepared(settings, seed, shards, model, stream, development)


def opened(options: argparse.Namespace, world: World) -> tuple[Train, int, ShardSet]:
    """The settings and the seed that the command asks for, checked, and its shards."""
    settings, seed = read_settings(options)
    if options.blind:
        settings = blindness.without_looking(settings)
    check_settings(settings, world)
    second_stage.check(settings, options.init)
    shards = opening.from_command(options, settings)
    return blindness.over(shards, settings) if options.blind else settings, seed, shards


def read_settings(options: argparse.Namespace) -> tuple[Train, int]:
    """The settings and the seed as they stand in the file and the command."""
    named = {} if options.preset is None else preset.load(options.preset)
    blind = ["inputs={}"] if options.blind else []
    settings, seed = load(options.params, [*options.set, *blind], named)
    return settings, seed if options.seed is None else options.seed


def _fresh_model(settings: Train, seed: int, shards: ShardSet) -> FusionModel:
    torch.manual_seed(seed64(seed, "init"))
    with device.enough_memory(device.WEIGHTS):
        model = run.build_model(settings, shards.features, shards.tokenizer, len(shards.answers))
    if settings.model.compile:
        compile_parts(model)
    return model
