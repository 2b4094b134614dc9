"""`python -m training.fit`: train fusion heads on shards."""

import argparse
import os
import sys
import time
from functools import partial
from itertools import groupby
from pathlib import Path

import torch
from msgspec import Struct, structs

from contract.errors import FuselineError, ParamsError, ShardError, run_command, unknown_name
from contract.seeds import seed64
from training import config, distributed, forecast, guards, preflight, preset, run
from training.batching import masking, synonyms
from training.batching.needs import need
from training.config import Train
from training.distributed import ALONE, World
from training.model.compiling import compile_parts
from training.model.model import FusionModel
from training.modules import filling
from training.optimizing import checkpoint, device, loop, optim, termination
from training.optimizing.checkpoint import State
from training.reading.unlisted import read_answers
from training.run import Run, RunConfig
from training.shards import TRAIN, ShardSet, open_shards
from training.stream import Stream
from training.trunk import pretrained_text

EXAMPLES = """\
examples:
  python -m training.fit --shards 'data/gqa-<000..099>.tar'    a range; the quotes are needed (see below)
  python -m training.fit --shards data/gqa-{000..099}.tar      the shell makes a hundred names of it
  python -m training.fit --shards 'data/gqa-*.tar'             a glob: its training shards
  python -m training.fit --shards data                         a folder: its training shards
  python -m training.fit --shards data/gqa-000.tar data/gqa-001.tar
  python -m training.fit --set optim.epochs=20 fusion.kind=none   other settings, for this run only
  python -m training.fit --preset pretrain --run runs/first    itc and itm, see training/presets/
  python -m training.fit --preset vqa --init runs/first        then questions, from their weights
  python -m training.fit --blind                               the model that never looks
  python -m training.fit --plan                                what a step reads, how long, which keys
  python -m training.fit --resume runs/20260102-0304-vqa       go on where it was stopped
  python -m training.fit --resume runs/20260102-0304-vqa --set threads=4 on_error=skip
  python -m training.fit --resume auto                         the newest run of this command, else a new one
  python -m training.fit --shards other --tokenizer tokenizer.json --answers answers.txt
                                                               self-contained shards without a manifest
  python -m training.fit --init runs/pretrained                start from another run's weights
  torchrun --nproc-per-node 2 -m -- training.fit --set optim.accumulate=2
                                                               two processes share the parts of each step

Unquoted, the shell takes < and > for redirections: it looks for a file named 000..099 and says "No such file
or directory" before Fuseline is even started. Quote the range, or write it with braces.

exit status: 0 trained to the end; 1 training failed; 2 a mistake in the command, the settings or the shards;
143 stopped by SIGTERM, with a checkpoint: go on by --resume.
"""

AUTO = Path("auto")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.fit",
        description="Train fusion heads on shards of frozen features.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--shards", nargs="+", default=["data"], metavar="PATTERN", help="default: data")
    parser.add_argument(
        "--features", type=Path, help="folder of the feature columns (default: beside the shards')"
    )
    parser.add_argument(
        "--allow-split", action="store_true", help="train on shards that are no training split"
    )
    parser.add_argument(
        "--tokenizer", type=Path, metavar="FILE", help="tokenizer.json of shards without a manifest"
    )
    parser.add_argument(
        "--answers", type=Path, metavar="FILE", help="their answers: one a line, or a JSON list"
    )
    parser.add_argument("--run", type=Path, help="folder of the run (default: runs/<time>-<tasks>)")
    parser.add_argument(
        "--resume", type=Path, metavar="RUN", help="go on with a run, with its own settings; or auto"
    )
    parser.add_argument("--plan", action="store_true", help="say what the run would read and need")
    parser.add_argument("--init", type=Path, metavar="RUN", help="start from another run's best weights")
    parser.add_argument("--blind", action="store_true", help="no picture at all: the question-only baseline")
    parser.add_argument(
        "--preset", metavar="NAME", help=f"a named set of settings, under --set: {', '.join(preset.names())}"
    )
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="override `train`"
    )
    parser.add_argument("--seed", type=int, help="instead of that of params.yaml")
    parser.add_argument(
        "--params", type=Path, default=Path("params.yaml"), help="settings (default: params.yaml)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    return parser


class Session(Struct):
    """All that training starts from. development is None where no picture is held out."""

    run: Run
    shards: ShardSet
    model: FusionModel
    state: State
    stream: Stream
    development: Stream | None


def main(arguments: list[str]) -> int:
    """Open or make the run, open its shards, train."""
    options, world = parser().parse_args(arguments), distributed.find()
    where = distributed.device(world, device.choose(options.device))
    if options.plan:
        if world.first:
            _forecast(options)
        return 0
    with distributed.joined(world, where):
        return _train(_shared_session(options, world), where, world)


def _train(session: Session, where: torch.device, world: World) -> int:
    if world.first:
        _announce(session, where, world)
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
    settings, seed = _settings(options)
    shards = _open_named(options, settings)
    stream, _ = _streams(shards, settings, seed, State(step=0, position=0))
    steps, epoch_steps = loop.planned_steps(len(stream), settings)
    print(f"plan     {steps:,} steps, {epoch_steps:,} an epoch of {len(stream):,} pictures")
    model = _fresh_model(settings, seed, shards)
    for line in forecast.lines(shards, stream, model, settings.optim.accumulate, steps):
        print(line)


def _shared_session(options: argparse.Namespace, world: World) -> Session:
    """The first process makes or opens the run, so that a mistake is said once; then the others open it."""
    session = _session(options, world) if world.first else None
    folder = os.fsdecode(world.gather(os.fsencode(session.run.folder) if session else b".")[0])
    session = session or _resume(Path(folder), options.set, world)
    world.copy_first(session.model.state_dict().values())
    return session


def _session(options: argparse.Namespace, world: World) -> Session:
    if options.resume is None:
        return _begin(options, world)
    if options.resume != AUTO:
        _refuse_beside_resume(options)
        return _resume(options.resume, options.set, world)
    found = _newest(options)
    return _resume(found, options.set, world) if found else _begin(options, world)


def _newest(options: argparse.Namespace) -> Path | None:
    """The run that this command would make, if it was made before: the newest, or the one named by --run."""
    settings, seed = _settings(options)
    wanted = _stored(options, settings, seed, _open_named(options, settings))
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
    shards = _open_again(current)
    run.check_identity(current, shards, settings.model.text)
    guards.check_shards(folder, stored.opened, guards.fingerprints(shards, settings))
    model = _fresh_model(settings, stored.seed, shards)
    state = _state(current, model)
    streams = _streams(shards, settings, stored.seed, state, world)
    return Session(current, shards, model, state, *streams)


def _use_threads(threads: int) -> None:
    """As many as the run began with: how a sum is split among them changes its last bits."""
    if threads != torch.get_num_threads():
        print(f"threads  {threads} for the arithmetic, as the run began with, not {torch.get_num_threads()}")
        torch.set_num_threads(threads)


def _begin(options: argparse.Namespace, world: World) -> Session:
    """A new run. Its folder is made last, when nothing in the settings is left to be refused."""
    settings, seed = _settings(options)
    _check_names(settings)
    shards = _open_named(options, settings)
    state = State(step=0, position=0)
    streams = _streams(shards, settings, seed, state, world)
    model = _fresh_model(settings, seed, shards)
    optim.check_groups(model, settings.optim.groups)
    if options.init:
        _print_init(options.init, *run.init_model(options.init, model, settings, shards))
    current = run.create(options.run or _name(settings), _stored(options, settings, seed, shards), shards)
    return Session(current, shards, model, state, *streams)


def _settings(options: argparse.Namespace) -> tuple[Train, int]:
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


def _open_named(options: argparse.Namespace, settings: Train) -> ShardSet:
    """The shards that the command names."""
    shards = open_shards(
        options.shards,
        settings.columns,
        split=TRAIN,
        allow_split=options.allow_split,
        features=options.features,
        tokenizer=options.tokenizer,
        answers=read_answers(options.answers) if options.answers else None,
    )
    if shards.source.listed and (options.tokenizer or options.answers):
        raise ParamsError(
            "--tokenizer" if options.tokenizer else "--answers",
            f"is for shards without a manifest; that of {shards.folder} says what made them",
            fix="leave it out",
        )
    return shards


def _open_again(current: Run) -> ShardSet:
    """The shards of a run, which has kept what they may not say themselves."""
    stored = current.config
    return open_shards(
        stored.shards,
        current.settings.columns,
        split=TRAIN,
        allow_split=stored.allow_split,
        features=Path(stored.features) if stored.features else None,
        tokenizer=current.folder / "tokenizer.json",
        answers=stored.answers,
    )


def _fresh_model(settings: Train, seed: int, shards: ShardSet) -> FusionModel:
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


def _streams(
    shards: ShardSet, settings: Train, seed: int, state: State, world: World = ALONE
) -> tuple[Stream, Stream | None]:
    """This process's training rows from where the run stands, and the development rows in a fixed order.

    None is empty.
    """
    _check_world(settings, world)
    take = None if settings.optim.texts_per_image == "all" else settings.optim.texts_per_image
    part = partial(
        Stream,
        shards,
        list(settings.tasks.chosen),
        max_tokens=settings.model.max_tokens,
        tokenizer=pretrained_text.tokenizer(settings.model.text),
        threads=settings.threads,
        ahead=settings.ahead,
        development=settings.development,
        negatives=settings.tasks.mined,
        datasets=settings.datasets,
        on_error=settings.on_error,
        max_skipped=settings.max_skipped,
        text_negatives=settings.tasks.region.negatives if settings.tasks.region else 0,
        swaps=settings.tasks.swapped,
        named=settings.tasks.hides_named,
    )
    stream = part(
        batch=settings.optim.batch // settings.optim.accumulate,
        seed=seed,
        texts_per_image=take,
        shuffle=settings.shuffle,
        window=settings.window,
        mask=settings.masking,
        epochs=settings.optim.epochs,
        position=state.position,
        skipped=state.skipped,
        rank=world.rank,
        world=world.size,
        change=synonyms.change(settings.augment, shards.tokenizer, seed),
    )
    masked = any(need(name).masked for name in settings.tasks.chosen)
    held = part(
        batch=settings.optim.batch,
        shuffle="none",
        part="development",
        mask=settings.masking if masked else None,
    )
    held.stop = len(held)
    _check_rows(shards, settings, len(stream), len(held))
    preflight.check(settings, stream, loop.planned_steps(len(stream), settings)[0])
    return stream, held if settings.development else None


def _check_world(settings: Train, world: World) -> None:
    parts = settings.optim.accumulate
    if parts % world.size:
        raise ParamsError(
            "train.optim.accumulate",
            "is the number of parts of a step, and the processes cannot share them evenly",
            found=f"{parts} for {world.size} processes",
            fix=f"--set optim.accumulate={-(-parts // world.size) * world.size}, or fewer processes",
        )


def _check_rows(shards: ShardSet, settings: Train, rows: int, held: int) -> None:
    if not rows + held:
        raise ShardError(shards.folder, "no picture has a text for the tasks of this run")
    if not rows or (settings.development and not held):
        raise ParamsError(
            "train.development",
            "leaves no picture to " + ("choose the best checkpoint by" if rows else "train on"),
            found=f"{settings.development} of {rows + held} pictures",
            fix="another share, or 0: no development part at all" if rows else "a smaller share",
        )


def _announce(session: Session, where: torch.device, world: World) -> None:
    settings, shards, stream = session.run.settings, session.shards, session.stream
    left_out, splits = shards.left_out, sorted({shard.split for shard in shards.shards})
    steps, _ = loop.planned_steps(len(stream), settings)
    print(f"run      {session.run.folder}")
    print(
        f"shards   {len(shards.shards)} of split {', '.join(splits)}"
        + (f"; {left_out} of other splits left out" if left_out else "")
    )
    for note in shards.notes:
        print(f"note     {note}", file=sys.stderr)
    if settings.tasks.hides_objects:
        print("note     is what is hidden gone? `python -m training.probe --masked` tells", file=sys.stderr)
    for name, known in shards.features.items():
        origin = "demo weights" if known.weights.demo else known.weights.source
        print(f"column   {name}: {known.model}, {known.tokens} × {known.width}, {origin}")
    if not shards.features:
        print("column   none: this model never looks at a picture")
    print(f"rows     {len(stream):,} pictures an epoch, {settings.optim.texts_per_image} texts of each")
    if len(stream.datasets) > 1:
        turns = zip(stream.datasets, stream.weights, strict=True)
        print("turns    " + ", ".join(f"{weight} of {dataset.dataset}" for dataset, weight in turns))
    parameters = sum(parameter.numel() for parameter in session.model.parameters())
    print(f"model    {parameters:,} parameters, {settings.fusion.kind} fusion, on {where}")
    if world.size > 1:
        print(f"world    {world.size} processes, {settings.optim.accumulate} parts a step")
    print(
        f"plan     {steps:,} steps of {settings.optim.batch} pictures, {settings.optim.epochs} epochs",
        flush=True,
    )


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
