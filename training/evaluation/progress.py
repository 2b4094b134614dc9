"""How far an evaluation is: a bar where a terminal is attached, else a line now and then."""

import sys
import time
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training.batch import Batch

PLAIN_EVERY = 5.0  # seconds between lines where no terminal is attached


def track(batches: Iterable[Batch], rows: int, title: str) -> Iterator[Batch]:
    """The batches, told on standard error as they are consumed. rows: pictures of all of them together."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as progress:
        bar, spoke = progress.add_task(title, total=rows), time.perf_counter()
        for batch in batches:
            yield batch
            progress.update(bar, completed=batch.position)
            if progress.disable and time.perf_counter() - spoke > PLAIN_EVERY:
                console.print(f"{title}: {batch.position:,} of {rows:,} pictures", highlight=False)
                spoke = time.perf_counter()
