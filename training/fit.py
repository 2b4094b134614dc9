"""`python -m training.fit`: train fusion heads on shards."""

import argparse
import sys

import torch

from contract.errors import run_command
from training import distributed, forecast
from training.distributed import World
from training.optimizing import device, loop, termination
from training.optimizing.checkpoint import State
from training.starting import opening
from training.starting.announcement import announce
from training.starting.command_line import parser
from training.starting.session import Session, fresh_model, read_settings, shared_session
from training.starting.streams import streams


def main(arguments: list[str]) -> int:
    """Open or make the run, open its shards, train."""
    options, world = parser().parse_args(arguments), distributed.find()
    where = distributed.device(world, device.choose(options.device))
    if options.plan:
        if world.first:
            _forecast(options)
        return 0
    with distributed.joined(world, where):
        return _train(shared_session(options, world), where, world)


def _train(session: Session, where: torch.device, world: World) -> int:
    if world.first:
        announce(session, where, world)
    current = session.run
    state = loop.train(
        session.model.to(where),
        session.stream,
        session.development,
        current.settings,
        current.config.seed,
        current.folder,
        session.state,
        where,
        world,
    )
    planned, _ = loop.planned_steps(len(session.stream), current.settings)
    if state.step < planned and not loop.given_up(state, current.settings):
        print(f"stopped by SIGTERM after {state.step} steps; next: --resume {current.folder}")
        return termination.STATUS
    print(f"done: {state.step} steps, checkpoints in {current.folder}/checkpoints")
    print(f"next: python -m training.evaluate --run {current.folder}")
    return 0


def _forecast(options: argparse.Namespace) -> None:
    settings, seed = read_settings(options)
    shards = opening.named(options, settings)
    stream, _ = streams(shards, settings, seed, State(step=0, position=0))
    steps, epoch_steps = loop.planned_steps(len(stream), settings)
    print(f"plan     {steps:,} steps, {epoch_steps:,} an epoch of {len(stream):,} pictures")
    model = fresh_model(settings, seed, shards)
    for line in forecast.lines(shards, stream, model, settings.optim.accumulate, steps):
        print(line)


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
