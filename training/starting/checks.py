"""What is refused before the run is made: settings by themselves, then with their rows."""

from contract.errors import ParamsError, ShardError, unknown_name
from training.batching import masking
from training.batching.eligible import texts_of
from training.batching.needs import need
from training.config import Itm, Tasks, Train
from training.distributed import World
from training.model.tasks import TASKS
from training.modules import filling
from training.objectives import memory_bank
from training.optimizing import loop
from training.optimizing.development import goal
from training.starting import first_records
from training.stream import Stream


def check_settings(settings: Train, world: World) -> None:
    """Names that nothing looks up before the first batch or the first epoch's end, and the processes."""
    best = [f"{task}/{measure}" for task in settings.tasks.chosen for measure in TASKS[task].measures]
    for place, what, chosen, known in (
        ("train.masking.kind", "kind", settings.masking.kind, list(masking.KINDS)),
        ("train.masking.fill", "fill", settings.masking.fill, list(filling.KINDS)),
        ("train.best", "measure", settings.best or best[0], best),
    ):
        if chosen not in known:
            raise unknown_name(place, what, chosen, known)
    check_world(settings, world)
    _check_holes(settings)
    _check_others(settings)


def check_world(settings: Train, world: World) -> None:
    """Each process takes as many parts of a step."""
    parts = settings.optim.accumulate
    if parts % world.size:
        raise ParamsError(
            "train.optim.accumulate",
            "is the number of parts of a step, and the processes cannot share them evenly",
            found=f"{parts} for {world.size} processes",
            fix=f"--set optim.accumulate={-(-parts // world.size) * world.size}, or fewer processes",
        )


def _check_holes(settings: Train) -> None:
    """A mask that looks for things would tell by what it hides whose holes lie over it."""
    masking = settings.masking
    if settings.tasks.hides_named and masking.hides and masking.kind == "object":
        raise ParamsError(
            "train.masking.kind",
            "hides things first, as the masked pictures of itm do: together they tell which pair is false",
            found=masking.kind,
            fix="masking.kind: random or block, or itm.sources.masked: 0",
        )


def _check_others(settings: Train) -> None:
    """What is wrong for a text is looked for among the other pictures of its batch, and there must be some.

    The contrast of itc is over all parts of a step, itm's pairs are of one part.
    """
    tasks, of = settings.tasks, settings.optim
    if tasks.itc and of.batch == 1 and not (tasks.itc.bank or tasks.itc.mined):
        raise _alone("itc", settings, "optim.batch: 32; else itc.bank or itc.mined")
    if tasks.itm and of.batch == of.accumulate and not _wrong_elsewhere(tasks.itm, tasks):
        fix = "optim.batch: 32, or a smaller optim.accumulate; else itm.mined with sources.mined or swapped"
        raise _alone("itm", settings, fix)


def _wrong_elsewhere(itm: Itm, tasks: Tasks) -> bool:
    """Whether a wrong picture and a wrong text can come from outside the batch."""
    sources = itm.sources
    picture = tasks.mined and (sources.similar or sources.random or sources.mined)
    return bool(picture and (tasks.near_texts or sources.swapped))


def _alone(task: str, settings: Train, fix: str) -> ParamsError:
    of = settings.optim
    return ParamsError(
        "train.optim.batch",
        f"leaves {task} nothing to tell a text's picture from: it would learn nothing",
        found=f"1 picture at a time (batch {of.batch}, accumulate {of.accumulate})",
        expected="2 or more" + (" in each part of a step" if task == "itm" else ""),
        fix=fix,
    )


def check_streams(settings: Train, stream: Stream, development: Stream | None) -> None:
    """Each part and task has rows, each bank enough to keep and steps to be used in."""
    texts = {
        task: texts_of(stream.shards, stream.datasets, need(task).counted) for task in settings.tasks.chosen
    }
    _check_rows(settings, stream, development)
    _check_texts(stream, texts)
    first_records.check(settings, stream)
    if development is not None:
        _check_goal(settings, development)
    _check_banks(settings, stream, texts["region"] if settings.tasks.region else 0)


def _check_rows(settings: Train, stream: Stream, development: Stream | None) -> None:
    rows, held = len(stream), 0 if development is None else len(development)
    if not rows + held:
        raise _nothing_for(stream, *settings.tasks.chosen)
    if not rows or (settings.development and not held):
        raise ParamsError(
            "train.development",
            "leaves no picture to " + ("choose the best checkpoint by" if rows else "train on"),
            found=f"{settings.development} of {rows + held} pictures",
            fix="another share, or 0: no development part at all" if rows else "a smaller share",
        )


def _check_texts(stream: Stream, texts: dict[str, int | None]) -> None:
    for task, count in texts.items():
        if count == 0:
            raise _nothing_for(stream, task)


def _nothing_for(stream: Stream, *tasks: str) -> ShardError:
    return ShardError(
        stream.shards.folder,
        f"no picture has a text for {', '.join(tasks)}: nothing would be learnt",
        expected="; ".join(need(task).takes for task in tasks),
        fix="name shards that have such texts, or other tasks: --preset, or train.tasks",
    )


def _check_goal(settings: Train, held: Stream) -> None:
    """A mean over nothing would call the first epoch the best."""
    task, *_ = goal(settings).partition("/")
    if texts_of(held.shards, held.datasets, need(task).counted) == 0:
        raise ParamsError(
            "train.development",
            f"holds out no text for {task}, whose {goal(settings)} chooses the best checkpoint",
            found=f"{len(held)} pictures, none with such a text",
            fix="a larger share, or another measure as train.best",
        )


def _check_banks(settings: Train, stream: Stream, with_box: int | None) -> None:
    steps, _ = loop.planned_steps(len(stream), settings)
    itc, region = settings.tasks.itc, settings.tasks.region
    if itc and itc.bank:
        memory_bank.check(itc.bank, "train.tasks.itc.bank", len(stream), "pictures", steps)
    if region and region.bank:
        place = "train.tasks.region.bank"
        memory_bank.check(region.bank, place, with_box or 0, "texts with a box", steps)
