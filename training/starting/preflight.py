"""What the shards do not hold that the settings ask for, said before the run is made."""

from contract.errors import ShardError
from training.batching.eligible import texts_of
from training.batching.needs import need
from training.config import Train
from training.objectives import memory_bank
from training.stream import Stream


def check(settings: Train, stream: Stream, steps: int) -> None:
    """Each task has a text in the rows of the stream, each bank enough to keep and steps to be used in."""
    texts = {
        task: texts_of(stream.shards, stream.datasets, need(task).counted) for task in settings.tasks.chosen
    }
    for task, count in texts.items():
        if count == 0:
            raise ShardError(
                stream.shards.folder,
                f"no picture has a text for {task}, which would be trained on nothing",
                fix=f"take {task} out of train.tasks, or name shards that have such texts",
            )
    itc, region = settings.tasks.itc, settings.tasks.region
    if itc and itc.bank:
        memory_bank.check(itc.bank, "train.tasks.itc.bank", len(stream), "pictures", steps)
    if region and region.bank:
        place = "train.tasks.region.bank"
        memory_bank.check(region.bank, place, texts["region"] or 0, "texts with a box", steps)
