"""A new run, or one that goes on, with everything open and checked before its first step."""

import argparse
import os
import sys
import time
from itertools import groupby
from pathlib import Path

import torch
from msgspec import Struct, structs

from contract.errors import FuselineError, ParamsError, unknown_name
from contract.seeds import seed64
from training import config, preset, run
from training.batching import masking
from training.config import Train
from training.distributed import World
from training.model.compiling import compile_parts
from training.model.model import FusionModel
from training.modules import filling
from training.optimizing import checkpoint, optim
from training.optimizing.checkpoint import State
from training.run import Run, RunConfig
from training.shards import ShardSet
from training.starting import guards, opening
from training.starting.command_line import parser
from training.starting.streams import streams
from training.stream import Stream

AUTO = Path("auto")


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
    session = session or _resume(Path(folder), options.set, world)
    world.copy_first(session.model.state_dict().values())
    return session


def open_session(options: argparse.Namespace, world: World) -> Session:
    if options.resume is None:
        return _begin(options, world)
    if options.resume != AUTO:
        _refuse_beside_resume(options)
        return _resume(options.resume, options.set, world)
    found = _newest(options)
    return _resume(found, options.set, world) if found else _begin(options, world)


def _newest(options: argparse.Namespace) -> Path | None:
    """The run that this command would make, if it was made before: the newest, or the one named by --run."""
    settings, seed = read_settings(options)
    wanted = _stored(options, settings, seed, opening.named(options, settings))
    named = [options.run] if options.run else sorted(Path("runs").glob(f"[0-9]*-{_kind(settings)}"))
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
    current, stored = structs.replace(current, settings=settings), current.config
    _use_threads(stored.torch_threads)
    shards = opening.again(current)
    run.check_identity(current, shards, settings.model.text)
    guards.check_shards(folder, stored.opened, guards.fingerprints(shards, settings))
    model = fresh_model(settings, stored.seed, shards)
    state = _state(current, model)
    found = streams(shards, settings, stored.seed, state, world)
    return Session(current, shards, model, state, *found)


def _use_threads(threads: int) -> None:
    """As many as the run began with: how a sum is split among them changes its last bits."""
    if threads != torch.get_num_threads():
        print(f"threads  {threads} for the arithmetic, as the run began with, not {torch.get_num_threads()}")
        torch.set_num_threads(threads)


def _begin(options: argparse.Namespace, world: World) -> Session:
    """A new run. Its folder is made last, when nothing in the settings is left to be refused."""
    settings, seed = read_settings(options)
    _check_names(settings)
    shards = opening.named(options, settings)
    state = State(step=0, position=0)
    found = streams(shards, settings, seed, state, world)
    model = fresh_model(settings, seed, shards)
    optim.check_groups(model, settings.optim.groups)
    if options.init:
        _print_init(options.init, *run.init_model(options.init, model, settings, shards))
    current = run.create(options.run or _name(settings), _stored(options, settings, seed, shards), shards)
    if options.init:  # a run that is killed before its first step goes on from these weights too
        optimizer = optim.build(model, settings.optim)
        checkpoint.save(current.folder, model, optimizer, state, best=False)
    return Session(current, shards, model, state, *found)


def read_settings(options: argparse.Namespace) -> tuple[Train, int]:
    named = preset.load(options.preset) if options.preset else {}
    blind = ["inputs={}"] if options.blind else []
    settings, seed = config.load(options.params, [*options.set, *blind], named)
    return settings, seed if options.seed is None else options.seed


def _stored(options: argparse.Namespace, settings: Train, seed: int, shards: ShardSet) -> RunConfig:
    return RunConfig(
        settings=config.to_builtins(settings),
        seed=seed,
        torch_threads=torch.get_num_threads(),
        shards=options.shards,
        opened=guards.fingerprints(shards, settings),
        data=str(shards.folder),
        features=str(options.features) if options.features else None,
        allow_split=options.allow_split,
        answers=shards.answers,
        identity=run.identify(shards, settings.model.text),
    )


def _check_names(settings: Train) -> None:
    """Names that nothing looks up before the first batch."""
    for key, chosen, known in (
        ("kind", settings.masking.kind, masking.KINDS),
        ("fill", settings.masking.fill, filling.KINDS),
    ):
        if chosen not in known:
            raise unknown_name(f"train.masking.{key}", key, chosen, known)


def _print_init(source: Path, loaded: list[str], new: list[str]) -> None:
    print(f"init     {source}: {len(loaded)} parameters loaded, {len(new)} new")
    for title, names in (("loaded", loaded), ("new", new)):
        for module, group in groupby(names, lambda name: ".".join(name.split(".")[:3])):
            print(f"{title:<8} {module}: {', '.join(group)}")


def _name(settings: Train) -> Path:
    return Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{_kind(settings)}"


def _kind(settings: Train) -> str:
    return "-".join([*settings.tasks.chosen, *(["blind"] if not settings.inputs else [])])


def fresh_model(settings: Train, seed: int, shards: ShardSet) -> FusionModel:
    torch.manual_seed(seed64(seed, "init"))
    model = run.build_model(settings, shards.features, shards.tokenizer, len(shards.answers))
    if settings.model.compile:
        compile_parts(model)
    return model


def _state(current: Run, model: FusionModel) -> State:
    if not (current.folder / "checkpoints" / "last.json").is_file():
        return State(step=0, position=0)  # killed before its first checkpoint: start again
    last = checkpoint.find(current.folder, "last")
    checkpoint.load_model(last, model)
    return checkpoint.load_state(last)
