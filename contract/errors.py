"""Errors that a person can act on: what was found where, what was expected, how to mend it."""

import errno
import resource
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import NoReturn

USER_ERROR = 2  # exit status of every mistake that the user can mend
USUAL_FILES = 4096  # open at once, of a process that reads many shards


class FuselineError(Exception):
    """A mistake in the input, never one of ours. Printed without a traceback.

    where: the file, key or shard concerned. problem: what is wrong, as one clause. status: of the process.
    """

    status = USER_ERROR

    def __init__(
        self,
        where: object,
        problem: str,
        *,
        found: object = None,
        expected: object = None,
        fix: str | None = None,
    ) -> None:
        self.where, self.problem = str(where), problem
        self.found, self.expected, self.fix = found, expected, fix
        super().__init__(self.text())

    def text(self) -> str:
        lines = [f"{self.where}: {self.problem}"]
        for name, value in (("found", self.found), ("expected", self.expected), ("fix", self.fix)):
            if value is not None:
                lines.append(f"  {name + ':':<10}{value}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        """Errors cross process boundaries (worker → parent) with their fields."""
        return (_rebuild, (type(self), self.where, self.problem, self.found, self.expected, self.fix))


class ParamsError(FuselineError):
    """params.yaml, or a value given on the command line, does not say what it must."""


class RawDataError(FuselineError):
    """A raw file or folder is missing, or is not what its format promises."""


class BudgetError(FuselineError):
    """More rows have a fault than params.yaml allows."""


class ShardError(FuselineError):
    """A shard, index or column is missing, damaged, or breaks the format."""


class NoRoomError(FuselineError):
    """The system opens no further file, or has no memory to read with. No file is to blame, so none may be
    left out for it.
    """


def unreadable(path: object, error: OSError, place: str = "") -> FuselineError:
    """What to raise where a file that is there cannot be opened or read. place: in it, as " at byte 512"."""
    return no_room(path, error) or ShardError(path, f"cannot be read{place}: {error.strerror}")


def no_room(path: object, error: OSError) -> NoRoomError | None:
    """What to raise where it is the system that cannot; None where it may be the file."""
    problem = f"{path} cannot be read: {error.strerror}"
    if error.errno == errno.EMFILE:
        return _too_many_files(problem)
    if error.errno == errno.ENFILE:
        fix = "end programs that hold many files, or have the limit of the whole machine raised"
        return NoRoomError("sysctl fs.file-max", problem, fix=fix)
    if error.errno in (errno.ENOMEM, errno.ENOBUFS):
        fix = "end other programs, or give this one more memory"
        return NoRoomError("memory", problem, fix=fix)
    return None


def no_memory(error: MemoryError) -> NoRoomError:
    """What to say where Python or numpy cannot have the memory that they ask for."""
    fix = "lower the batch (optim.batch, --batch), ahead, threads or workers, or give it more memory"
    return NoRoomError("memory", "is not enough", found=str(error) or None, fix=fix)


def _too_many_files(problem: str) -> NoRoomError:
    """Of this process. A higher limit is offered as far as the system gives one that is asked."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(USUAL_FILES, 2 * allowed)
    more = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    fewer = "close streams that are not read any more, or take fewer workers"
    fix = f"ulimit -n {more}, or " * (more > allowed) + fewer
    return NoRoomError("ulimit -n", problem, found=f"{allowed} files at once", fix=fix)


class MismatchError(FuselineError):
    """Two things that must belong together do not: schema, tokenizer, encoder, weights, checkpoint."""


class TrainingError(FuselineError):
    """Training cannot go on: not the user's command is wrong, but what it led to."""

    status = 1


def _rebuild(
    kind: type[FuselineError],
    where: str,
    problem: str,
    found: object,
    expected: object,
    fix: str | None,
) -> FuselineError:
    return kind(where, problem, found=found, expected=expected, fix=fix)


def unknown_name(
    where: object, what: str, name: str, known: Iterable[str], kind: type[FuselineError] = ParamsError
) -> FuselineError:
    """The error for a name that is none of `known`: lists them and offers the nearest."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    return kind(
        where,
        f"unknown {what} '{name}'",
        expected=f"one of {', '.join(names)}" if names else "none is defined",
        fix=f"did you mean '{near[0]}'?" if near else None,
    )


def run_command(command: Callable[[], int | None]) -> NoReturn:
    """Run a command line's body and leave the process with its status; a user's mistake is 2."""
    try:
        status = command() or 0
    except FuselineError as error:
        status = _said(error)
    except MemoryError as error:
        status = _said(no_memory(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    except BrokenPipeError:  # `… | head` closed our standard output
        sys.stderr.close()
        status = 0
    except OSError as error:
        place = error.filename or "the system"
        status = _said(no_room(place, error) or FuselineError(place, f"{error.strerror or error}"))
    sys.exit(status)


def _said(error: FuselineError) -> int:
    print(f"error: {error.text()}", file=sys.stderr)
    return error.status
