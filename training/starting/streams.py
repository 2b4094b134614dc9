"""The rows of a run as streams: those that are trained on, and those that are held out."""

from collections.abc import Callable
from functools import partial

from msgspec import structs

from training.batching import synonyms
from training.batching.needs import Need, need
from training.config import Tasks, Train
from training.distributed import ALONE, World
from training.optimizing.checkpoint import State
from training.shards import ShardSet
from training.stream import Stream
from training.trunk import pretrained_text

SCORED = 16  # pictures at a time, at least, lest a small batch make the score one of few candidates


def streams(
    shards: ShardSet, settings: Train, seed: int, state: State, world: World = ALONE
) -> tuple[Stream, Stream | None]:
    """This process's training rows from where the run stands, and the development rows in a fixed order."""
    part = _rows(shards, settings)
    held = _held_out_rows(part, settings) if settings.development else None
    return _training_rows(part, shards, settings, seed, state, world), held


def _rows(shards: ShardSet, settings: Train) -> Callable[..., Stream]:
    """A stream of either part, by what both have in common."""
    return partial(
        Stream,
        shards,
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
        near_texts=settings.tasks.near_texts,
        named=settings.tasks.hides_named,
    )


def _training_rows(
    part: Callable[..., Stream], shards: ShardSet, settings: Train, seed: int, state: State, world: World
) -> Stream:
    take = None if settings.optim.texts_per_image == "all" else settings.optim.texts_per_image
    return part(
        needs(settings.tasks),
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


def _held_out_rows(part: Callable[..., Stream], settings: Train) -> Stream:
    """Masked as at the end of training where a task asks what hides: so that scores of all epochs compare."""
    masked = any(need(name).masked for name in settings.tasks.chosen)
    held = part(
        {name: structs.replace(of, by_key=False) for name, of in needs(settings.tasks).items()},
        batch=max(settings.optim.batch, SCORED),
        shuffle="none",
        part="development",
        mask=settings.masking.at_end if masked else None,
    )
    held.stop = len(held)
    return held


def needs(tasks: Tasks) -> dict[str, Need]:
    """The rows of the chosen tasks; changed texts are asked for by those alone that look at some, and what a
    static bank holds is not read once more.
    """
    return {
        name: structs.replace(
            need(name),
            swaps=bool(getattr(options, "swapped", 0)),
            by_key=bool(getattr(options, "static_bank", False)),
        )
        for name, options in tasks.chosen.items()
    }
