"""Finished tars of earlier runs, found in DVC's cache and linked into the work folder.

DVC empties an out before its stage runs, but its cache keeps every version of it: a `.dir` object lists the
files of a folder with their md5, and `tasks.json` in a column says which task made which of its tars.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from contract import column, index, plain_yaml
from contract.errors import MismatchError, ShardError
from contract.files import link, write_atomic
from contract.index import index_path
from data_pipeline.features.feature_shard import Done, Task

TASKS = "tasks.json"
LOCK = Path("dvc.lock")
MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


class Made(Struct):
    """What became of a task. shard: the name of its tar, one of them if several shards hold the same."""

    shard: str
    done: Done


class Entry(Struct):
    """A row of a `.dir` object."""

    md5: str
    relpath: str


class Version(Struct):
    """A column as the cache knows it. files: relative path → its object, which need not be there."""

    files: dict[str, Path]
    tasks: dict[str, Made]


def recover(
    tasks: Mapping[str, Task], out: Path, cache: Path | None, encode_unfetched: bool
) -> dict[str, Done]:
    """Link the tars of these tasks (by key) that the cache holds into their places; say what they are.

    MismatchError when dvc.lock names tars of the column that are not in the cache, unless
    `encode_unfetched`: to encode them again might take days where a fetch takes minutes.
    """
    if cache is None or not tasks:
        return {}
    locked = locked_object(out)
    found: dict[str, Done] = {}
    for version in versions(cache, locked):
        for key in version.tasks.keys() & (tasks.keys() - found.keys()):
            if (done := take(tasks[key], version)) is not None:
                found[key] = done
        if len(found) == len(tasks):
            return found
    if locked and not encode_unfetched:
        _check_fetched(tasks, found, out, read(cache, locked))
    return found


def _check_fetched(
    tasks: Mapping[str, Task], found: Mapping[str, Done], out: Path, locked: Version | None
) -> None:
    lost = tasks.keys() - found.keys()
    if locked is not None:
        lost &= locked.tasks.keys()
    if lost:
        raise MismatchError(
            out,
            f"{LOCK} names features that are not in DVC's cache, so they would be encoded again",
            found=f"{len(tasks)} shards to encode, of which {len(lost)} may be there already",
            fix=f"dvc fetch {out}, or set `encode_unfetched: true` in params.yaml",
        )


def objects() -> Path | None:
    """The folder of the cache's objects, wherever DVC's settings put it; None outside a DVC project."""
    if not Path(".dvc").is_dir():
        return None
    from dvc.config import Config  # not needed by the workers

    configured = Config.from_cwd()["cache"].get("dir")
    return Path(".dvc", configured or "cache") / "files" / "md5"


def locked_object(out: Path) -> str | None:
    """The `.dir` object that dvc.lock names for an out, if it names one."""
    stages = plain_yaml.read(LOCK).get("stages") or {} if LOCK.is_file() else {}
    outs = [entry for stage in stages.values() for entry in stage.get("outs") or []]
    return next((entry.get("md5") for entry in outs if entry.get("path") == out.as_posix()), None)


def versions(cache: Path, first: str | None) -> Iterator[Version]:
    """Every folder in the cache that holds tasks, `first` first, then the newest."""
    newest = sorted(cache.glob("??/*.dir"), key=lambda path: (-path.stat().st_mtime_ns, path))
    names = dict.fromkeys([first] if first else [])
    names |= dict.fromkeys(path.parent.name + path.name for path in newest)
    for name in names:
        if (version := read(cache, name)) is not None and version.tasks:
            yield version


def read(cache: Path, name: str) -> Version | None:
    """A folder's version by the name of its `.dir` object. None if the list or its tasks are not there."""
    try:
        rows = msgspec.json.decode(_object(cache, name).read_bytes(), type=list[Entry])
        files = {row.relpath: _object(cache, row.md5) for row in rows}
        tasks = msgspec.json.decode(files[TASKS].read_bytes(), type=dict[str, Made]) if TASKS in files else {}
    except (OSError, ValueError):  # gone, or damaged: msgspec's errors are ValueErrors too
        return None
    return Version(files, tasks)


def _object(cache: Path, md5: str) -> Path:
    if not MD5.fullmatch(md5):
        raise ValueError(f"{md5!r} names no object")
    return cache / md5[:2] / md5[2:]


def take(task: Task, version: Version) -> Done | None:
    """Give the task its tar out of the cache. None if it is not there, or not what the task would make."""
    made = version.tasks[task.key]
    tar, rows = (version.files.get(f"{made.shard}{ending}") for ending in (".tar", ".tar.idx"))
    if tar is None or rows is None or not _is_whole(task, made.done, tar, rows):
        return None
    link(tar, task.tar)
    link(rows, index_path(task.tar))
    write_atomic(task.tar.with_suffix(".json"), msgspec.json.encode(made.done))
    return made.done


def _is_whole(task: Task, done: Done, tar: Path, rows: Path) -> bool:
    """The tar's size, and an index of it that lists the task's pictures. Its bytes are DVC's to check."""
    try:
        known = index.parse(rows.read_bytes(), rows, tar.stat().st_size)
    except (OSError, ShardError):
        return False
    members = tuple(column.suffixes(task.column, task.settings.dtype))
    pictures = [picture.key for picture in task.pictures]
    return (known.tar_bytes, known.suffixes, known.keys()) == (done.written.bytes, members, pictures)
