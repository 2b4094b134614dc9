"""Map independent tasks over processes or threads: results in the order of the tasks, however many workers.

Tasks must be pure and idempotent. Worker processes are forked from a server that has imported the function's
module and nothing has run in yet: as safe as a spawned process, and a heavy import (torch) is paid for once.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from contract.errors import FuselineError, unreadable

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 3  # tasks per worker that wait in its queue: bounds what unread results hold in memory
QUIET = 10.0  # seconds between two plain lines of progress
FILES, FILES_EACH = 10, 4  # that a pool holds open as it starts, and each worker of it


def run_tasks(
    function: Callable[[T], R],
    tasks: Sequence[T],
    workers: int,
    *,
    label: str,
    preload: Sequence[str] = (),
) -> Iterator[R]:
    """Yield function(task) of every task, in order. One worker means this process.

    function: at the top level of a module; tasks and results cross processes by pickle.
    preload: slow modules that the function will import, paid for once (heeded by a process's first call).
    A FuselineError arrives as it was raised; any other exception carries the worker's traceback.
    """
    results = (
        map(function, tasks) if workers == 1 else _in_processes(function, tasks, workers, label, preload)
    )
    return _shown(results, len(tasks), label)


def run_threads(
    function: Callable[[T], R], tasks: Iterable[T], workers: int, *, label: str, total: int
) -> Iterator[R]:
    """The same in threads of this process: for tasks that leave the interpreter to hash, read or join.

    tasks are taken a few ahead of the results, so that what they hold need not all be there at once.
    """
    with ThreadPoolExecutor(workers) as pool:
        yield from _shown(_ahead(pool, function, tasks, workers), total, label)


def _in_processes(
    function: Callable[[T], R], tasks: Sequence[T], workers: int, label: str, preload: Sequence[str]
) -> Iterator[R]:
    size = min(workers, max(len(tasks), 1))
    _check_room(size)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([function.__module__, *preload])
    pool = ProcessPoolExecutor(size, context, initializer=_join_parent, initargs=(Path.cwd(),))
    try:
        yield from _ahead(pool, function, tasks, workers)
    except BrokenProcessPool:
        fix = "give it more memory, or lower `workers` in params.yaml; finished tasks are kept"
        raise FuselineError(label, "a worker process was killed", fix=fix) from None
    finally:
        pool.shutdown()


def _check_room(workers: int) -> None:
    """A pool that may not open its files ends in bare errors, some of them of other things."""
    held: list[int] = []
    try:
        for _ in range(FILES + FILES_EACH * workers):
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        raise unreadable(f"what {workers} workers need", error) from None
    finally:
        for descriptor in held:
            os.close(descriptor)


def _ahead(pool: Executor, function: Callable[[T], R], tasks: Iterable[T], workers: int) -> Iterator[R]:
    """Results in the order of the tasks, of which a few wait for each worker."""
    waiting: deque[Future[R]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(function, task))
            if len(waiting) > AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _join_parent(folder: Path) -> None:
    """A worker works in its parent's folder, leaves Ctrl-C to it, and does not outlive it."""
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    Thread(target=_leave_after, args=[parent], daemon=True).start()


def _leave_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _shown(results: Iterable[R], total: int, label: str) -> Iterator[R]:
    """A progress bar on a terminal, a plain line now and then elsewhere; both on standard error."""
    console = Console(stderr=True)
    if console.is_terminal:
        yield from track(results, label, total, console=console, transient=True)
        return
    said = time.monotonic()
    for done, result in enumerate(results, 1):
        if time.monotonic() - said > QUIET:
            said = time.monotonic()
            print(f"{label}: {done} of {total}", file=sys.stderr, flush=True)
        yield result
