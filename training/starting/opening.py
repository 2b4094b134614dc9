"""The shards of a run: those that a command names, or those that a run was trained on."""

import argparse
from pathlib import Path

from contract.errors import ParamsError
from training.config import Train
from training.reading.unlisted import read_answers
from training.run import Run
from training.shards import TRAIN, ShardSet, open_shards


def from_command(options: argparse.Namespace, settings: Train) -> ShardSet:
    """The shards that the command names."""
    shards = open_shards(
        options.shards,
        settings.columns,
        split=TRAIN,
        allow_split=options.allow_split,
        features=options.features,
        tokenizer=options.tokenizer,
        answers=read_answers(options.answers) if options.answers else None,
        on_error=settings.on_error,
    )
    if shards.source.listed and (options.tokenizer or options.answers):
        raise ParamsError(
            "--tokenizer" if options.tokenizer else "--answers",
            f"is for shards without a manifest; that of {shards.folder} says what made them",
            fix="leave it out",
        )
    return shards


def from_run(current: Run) -> ShardSet:
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
        on_error=current.settings.on_error,
    )
