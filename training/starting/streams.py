"""The rows of a run as streams: those that are trained on, and those that are held out."""

from functools import partial

from contract.errors import ParamsError, ShardError
from training.batching import synonyms
from training.batching.needs import need
from training.config import Train
from training.distributed import ALONE, World
from training.optimizing import loop
from training.optimizing.checkpoint import State
from training.shards import ShardSet
from training.starting import preflight
from training.stream import Stream
from training.trunk import pretrained_text


def streams(
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
