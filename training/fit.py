"""`python -m training.fit`: train fusion heads on shards."""

import argparse
import shlex
import sys
from pathlib import Path

import torch

from contract.errors import ParamsError, run_command
from training import blindness, distributed, forecast, run
from training.blindness import NoBaseline
from training.distributed import World
from training.model.model import FusionModel
from training.optimizing import development, device, loop, termination
from training.optimizing.checkpoint import State
from training.optimizing.job import Job
from training.starting import bank_filling, second_stage
from training.starting.announcement import announce
from training.starting.checks import check_world
from training.starting.command_line import parser
from training.starting.preparing import prepare, read_settings
from training.starting.session import AUTO, Session, name, shared_session


@device.enough_memory()
def main(arguments: list[str]) -> int:
    """Open or make the run, open its shards, train."""
    options, world = parser().parse_args(arguments), distributed.find()
    where = distributed.device(world, device.choose(options.device))
    if options.blind and options.resume in (None, AUTO) and not _learns_blindly(options, world):
        return 0
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
    model = session.model.to(where)
    if second_stage.chosen(current.settings) and not _ended(session.state, session):
        _fill_bank(session, model, where, world)
    state = loop.train(job, model, session.stream, session.development, session.state)
    folder = shlex.quote(str(current.folder))
    if not _ended(state, session):
        print(f"stopped by SIGTERM after {state.step} steps; next: --resume {folder}")
        return termination.STATUS
    print(f"done: {state.step} steps, checkpoints in {current.folder}/checkpoints")
    print(f"next: python -m training.evaluate --run {folder}")
    return 0


def _fill_bank(session: Session, model: FusionModel, where: torch.device, world: World) -> None:
    folder = session.run.folder
    before = bank_filling.left_out(folder)
    left_out = bank_filling.fill(model, session.stream, session.run.settings, where, before)
    bank_filling.keep(folder, left_out, world)
    for stream in filter(None, (session.stream, session.development)):
        stream.faults.know(left_out)
    if world.first:
        for why in filter(None, left_out.values()):
            print(f"skipped: {why}")
        pictures, none = len(bank_filling.bank_of(model).group), bank_filling.without_feature(session.stream)
        print(f"bank     {pictures:,} pictures, all of them candidates at each step", flush=True)
        if none:
            print(f"note     {none:,} pictures without a feature are no candidates, nor edits to them asked")


def _ended(state: State, session: Session) -> bool:
    """Whether there is no step left to do."""
    planned, _ = loop.planned_steps(len(session.stream), session.run.settings)
    return state.step >= planned or development.given_up(state, session.run.settings)


def _learns_blindly(options: argparse.Namespace, world: World) -> bool:
    """Whether there is a task to learn without pictures. It says which are left out; where all are, the run's
    folder is to say so.
    """
    settings, _ = read_settings(options)
    none, left_out = blindness.missing(settings.tasks), blindness.looking(settings.tasks.chosen)
    if world.first and none:
        _leave(options, none, options.run or name(settings))
    elif world.first and left_out:
        print(f"note     left out, for they look at pictures: {', '.join(left_out)}", file=sys.stderr)
    return none is None


def _leave(options: argparse.Namespace, none: NoBaseline, folder: Path) -> None:
    print(f"blind    {none.said}")
    if options.plan or blindness.read(folder) == none:
        return
    run.check_new(folder)
    blindness.write(folder, none)
    print(f"written: {folder / blindness.FILE}")


def _forecast(options: argparse.Namespace, world: World) -> None:
    if options.resume:
        raise ParamsError("--plan", "tells of a new run, not of one that goes on", fix="leave out --resume")
    new = prepare(options)
    check_world(new.settings, world)
    steps, epoch_steps = loop.planned_steps(len(new.stream), new.settings)
    print(f"plan     {steps:,} steps, {epoch_steps:,} an epoch of {len(new.stream):,} pictures")
    for line in forecast.lines(new.shards, new.stream, new.model, new.settings.optim, steps):
        print(line)
    if second_stage.chosen(new.settings):
        pictures = sum(map(len, bank_filling.pictures(new.stream)))
        print(forecast.bank_line(pictures, bank_filling.bank_of(new.model).vectors))


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
