"""The weights of another run that a new one begins with, and what a person is told of them."""

from collections import Counter
from pathlib import Path

from training import run
from training.config import Train
from training.model.model import FusionModel
from training.shards import ShardSet
from training.starting import second_stage


def take(source: Path, model: FusionModel, settings: Train, shards: ShardSet) -> None:
    """Put them in, or say why they cannot be."""
    before = run.open_run(source).settings
    second_stage.check_source(source, before, settings)
    loaded, fresh, left = run.init_model(source, model, settings, shards)
    copied = second_stage.begin(source, model, loaded) if second_stage.chosen(settings) else []
    new = sorted({*fresh} - {*copied})
    print(f"init     {source}: {len(loaded)} parameters loaded, {len(new)} new, {len(left)} left there")
    for title, names in (("loaded", loaded), ("copied", copied), ("new", new), ("left", left)):
        for module, count in Counter(".".join(name.split(".")[:3]) for name in names).items():
            print(f"{title:<8} {module}: {count}")
