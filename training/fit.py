"""`python -m training.fit`: train fusion heads on shards."""

import argparse
import shlex
import sys

import torch

from contract.errors import ParamsError, run_command
from training import distributed, forecast
from training.distributed import World
from training.optimizing import development, device, loop, termination
from training.optimizing.job import Job
from training.starting.announcement import announce
from training.starting.checks import check_world
from training.starting.command_line import parser
from training.starting.preparing import prepare
from training.starting.session import Session, shared_session


@device.enough_memory()
def main(arguments: list[str]) -> int:
    """Open or make the run, open its shards, train."""
    options, world = parser().parse_args(arguments), distributed.find()
    where = distributed.device(world, device.choose(options.device))
    if options.plan:
        if world.first:
            _forecast(options, world)
        return 0
    with distributed.joined(world, where):
        return _train(shared_session(options, world), where, world)


def _train(session: Session, where: torch.device, world: World) -> int:
    if world.first:
        announce(session, where, world)
    current = session.run
    job = Job(current.settings, current.config.seed, current.folder, where, world)
    state = loop.train(job, session.model.to(where), session.stream, session.development, session.state)
    planned, _ = loop.planned_steps(len(session.stream), current.settings)
    folder = shlex.quote(str(current.folder))
    if state.step < planned and not development.given_up(state, current.settings):
        print(f"stopped by SIGTERM after {state.step} steps; next: --resume {folder}")
        return termination.STATUS
    print(f"done: {state.step} steps, checkpoints in {current.folder}/checkpoints")
    print(f"next: python -m training.evaluate --run {folder}")
    return 0


def _forecast(options: argparse.Namespace, world: World) -> None:
    if options.resume:
        raise ParamsError("--plan", "tells of a new run, not of one that goes on", fix="leave out --resume")
    new = prepare(options)
    check_world(new.settings, world)
    steps, epoch_steps = loop.planned_steps(len(new.stream), new.settings)
    print(f"plan     {steps:,} steps, {epoch_steps:,} an epoch of {len(new.stream):,} pictures")
    for line in forecast.lines(new.shards, new.stream, new.model, new.settings.optim, steps):
        print(line)


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
