"""A model without pictures: the tasks that it can learn, and what its folder holds where there is none."""

from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from contract.codec import UNDECODABLE
from contract.errors import MismatchError
from contract.files import write_atomic
from training.batching.eligible import eligible
from training.batching.needs import need
from training.config import Tasks, Train
from training.model.tasks import TASKS
from training.shards import ShardSet

FILE = "no_baseline.json"
SEEING = ("trunk.picture.fillings", "trunk.picture.fusion", "trunk.picture.normalizers", "trunk.text_fusion")


class NoBaseline(Struct, forbid_unknown_fields=True):
    """no_baseline.json, in place of a run. tasks: those that were asked for; why: in words for people."""

    tasks: list[str]
    why: str = "each looks at pictures, and a blind model has none"

    @property
    def said(self) -> str:
        """In one line."""
        return f"no blind baseline of {', '.join(self.tasks)}: {self.why}"


def looking(tasks: Iterable[str]) -> list[str]:
    """Those that look at pictures apart from any text, and have nothing to learn without."""
    return [name for name in tasks if TASKS[name].alone]


def missing(tasks: Tasks) -> NoBaseline | None:
    """What is left in place of a run where no task is one for a model without pictures."""
    chosen = list(tasks.chosen)
    return NoBaseline(chosen) if looking(chosen) == chosen else None


def write(folder: Path, none: NoBaseline) -> None:
    """Leave it in the folder."""
    write_atomic(folder / FILE, msgspec.json.format(msgspec.json.encode(none), indent=1) + b"\n")


def read(folder: Path) -> NoBaseline | None:
    """What a folder holds in place of a run, if it does."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=NoBaseline)
    except UNDECODABLE as error:
        raise MismatchError(path, f"is not of this version: {error}") from None


def without_looking(settings: Train) -> Train:
    """The settings without the tasks that look at pictures, and without what only they or pictures need."""
    left_out = looking(settings.tasks.chosen)
    best = None if settings.best and settings.best.partition("/")[0] in left_out else settings.best
    absent = [*SEEING, *(f"heads.{name}" for name in left_out)]
    groups = {
        part: factor
        for part, factor in settings.optim.groups.items()
        if not any(f"{part}.".startswith(f"{gone}.") for gone in absent)
    }
    return structs.replace(
        settings,
        tasks=structs.replace(settings.tasks, **dict.fromkeys(left_out)),
        optim=structs.replace(settings.optim, groups=groups),
        best=best,
    )


def over(shards: ShardSet, settings: Train) -> Train:
    """The settings without the datasets that were named for tasks which are left out."""
    counted = [kind for name in settings.tasks.chosen if (kind := need(name).counted)]
    found = eligible(shards, counted, "train", settings.development)
    bare = {dataset.dataset for dataset in found if not len(dataset)}
    kept = {name: weight for name, weight in settings.datasets.items() if name not in bare}
    return structs.replace(settings, datasets=kept or settings.datasets)
