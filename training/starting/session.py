"""A new run, or one that goes on, with everything open and checked before its first step."""

import argparse
import os
import sys
import time
from pathlib import Path

import torch
from msgspec import Struct, structs

from contract.errors import FuselineError, ParamsError
from contract.files import check_folder
from training import run
from training.batching import synonyms
from training.config import Train
from training.distributed import World
from training.model.model import FusionModel
from training.optimizing import checkpoint, optim
from training.optimizing.checkpoint import State
from training.run import Run, RunConfig
from training.settings import to_builtins
from training.shards import ShardSet
from training.starting import guards, opening
from training.starting.checks import check_settings
from training.starting.command_line import parser
from training.starting.preparing import opened, over, prepare
from training.stream import Stream

AUTO = Path("auto")
RUNS = Path("runs")


class Session(Struct):
    """All that training starts from. development is None where no picture is held out."""

    run: Run
    shards: ShardSet
    model: FusionModel
    state: State
    stream: Stream
    development: Stream | None


def shared_session(options: argparse.Namespace, world: World) -> Session:
    """The first process makes or opens the run, so that a mistake is said once; then the others open it."""
    session = open_session(options, world) if world.first else None
    folder = os.fsdecode(world.gather(os.fsencode(session.run.folder) if session else b".")[0])
    session = session or _resume(Path(folder), _free(options.set), world)
    world.copy_first(session.model.state_dict().values())
    return session


def open_session(options: argparse.Namespace, world: World) -> Session:
    if options.resume is None:
        return _begin(options, world)
    if options.resume != AUTO:
        _refuse_beside_resume(options)
        return _resume(options.resume, options.set, world)
    found = _newest(options, world)
    return _resume(found, _free(options.set), world) if found else _begin(options, world)


def _free(overrides: list[str]) -> list[str]:
    """Those of settings that may change; the others are the found run's already."""
    return [one for one in overrides if one.partition("=")[0] in guards.FREE]


def _newest(options: argparse.Namespace, world: World) -> Path | None:
    """The run that this command would make, if it was made before: the newest, or the one named by --run."""
    settings, seed, shards = opened(options, world)
    wanted = _stored(options, settings, seed, shards)
    named = [options.run] if options.run else sorted(RUNS.glob(f"[0-9]*-{_kind(settings)}"))
    runs = [_readable(folder) for folder in named if (folder / "config.json").is_file()]
    return next((one.folder for one in reversed(runs) if one and guards.same(one.config, wanted)), None)


def _readable(folder: Path) -> Run | None:
    """A run, or a note of why it is none that this version can go on with."""
    try:
        return run.open_run(folder)
    except FuselineError as error:
        print(f"note     passed over: {error.text()}", file=sys.stderr)
        return None


def _refuse_beside_resume(options: argparse.Namespace) -> None:
    defaults = parser().parse_args([])
    data = ("shards", "features", "allow_split", "tokenizer", "answers")
    for name in (*data, "run", "init", "blind", "preset", "seed"):
        if getattr(options, name) != getattr(defaults, name):
            raise ParamsError(
                f"--{name.replace('_', '-')}",
                "does not go with --resume: a run goes on with its own settings",
            )


def _resume(folder: Path, overrides: list[str], world: World) -> Session:
    """The run as it was, over the shards that it was trained on. overrides: of settings that may change."""
    current = run.open_run(folder)
    settings = guards.continued(folder, current.settings, overrides)
    check_settings(settings, world)
    current, stored = structs.replace(current, settings=settings), current.config
    _use_threads(stored.torch_threads)
    shards = opening.from_run(current)
    run.check_identity(current, shards, settings.model.text)
    guards.check_shards(folder, stored.opened, guards.fingerprints(shards, settings))
    guards.check_words(folder, stored.words, settings.augment)
    last = _last_checkpoint(folder)
    state = checkpoint.load_state(last) if last else State(step=0, position=0, asked=[])
    found = over(shards, settings, stored.seed, state, world)
    if last:
        checkpoint.load_model(last, found.model)
    return Session(current, shards, found.model, state, found.stream, found.development)


def _use_threads(threads: int) -> None:
    """As many as the run began with: how a sum is split among them changes its last bits."""
    if threads != torch.get_num_threads():
        print(f"threads  {threads} for the arithmetic, as the run began with, not {torch.get_num_threads()}")
        torch.set_num_threads(threads)


def _begin(options: argparse.Namespace, world: World) -> Session:
    """A new run. Its folder is tried first, and made when nothing in the settings is left to be refused."""
    if options.run:
        run.check_new(options.run)
    else:
        check_folder(RUNS)
    new, state = prepare(options, world), State(step=0, position=0, asked=[])
    stored = _stored(options, new.settings, new.seed, new.shards)
    current = run.create(options.run or name(new.settings), stored, new.shards)
    if options.init:  # a run that is killed before its first step goes on from these weights too
        optimizer = optim.build(new.model, new.settings.optim)
        checkpoint.save(current.folder, new.model, optimizer, state, best=False)
    return Session(current, new.shards, new.model, state, new.stream, new.development)


def _stored(options: argparse.Namespace, settings: Train, seed: int, shards: ShardSet) -> RunConfig:
    return RunConfig(
        settings=to_builtins(settings),
        seed=seed,
        torch_threads=torch.get_num_threads(),
        shards=options.shards,
        opened=guards.fingerprints(shards, settings),
        data=str(shards.folder),
        features=str(options.features) if options.features else None,
        allow_split=options.allow_split,
        answers=shards.answers,
        identity=run.identify(shards, settings.model.text),
        init=run.fingerprint(options.init) if options.init else None,
        ancestors=run.trained_on(run.open_run(options.init).config) if options.init else [],
        words=synonyms.fingerprint(settings.augment),
    )


def name(settings: Train) -> Path:
    """Of a new run's folder, where the command names none."""
    return RUNS / f"{time.strftime('%Y%m%d-%H%M%S')}-{_kind(settings)}"


def _kind(settings: Train) -> str:
    return "-".join([*settings.tasks.chosen, *(["blind"] if not settings.inputs else [])])


def _last_checkpoint(folder: Path) -> Path | None:
    """None where the run was killed before its first: it starts again."""
    there = (folder / "checkpoints" / "last.json").is_file()
    return checkpoint.find(folder, "last") if there else None
