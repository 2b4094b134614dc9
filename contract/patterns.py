"""`--shards`: names, ranges, globs and folders → shard files.

data/gqa-000.tar            one shard
data/gqa-<000..099>.tar     a range; quote it, for the shell reads < and > as redirections
data/gqa-{000..099}.tar     the same; unquoted, the shell itself makes a hundred names of it
'data/gqa-*.tar'            a glob
data                        a folder: every shard in it
"""

import re
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from contract.errors import ShardError

RANGE = re.compile(r"[<{](\d+)\.\.(\d+)[>}]")
MAX_RANGE = 1_000_000


class Named(Struct, frozen=True):
    """A shard file. explicit: named itself or by a range. whole: by a folder, which must be complete."""

    path: Path
    explicit: bool = False
    whole: bool = False


def expand(patterns: Iterable[str]) -> list[Named]:
    """Every shard that the patterns name, each once, in the order named.

    ShardError when a name or part of a range is missing, or a glob or folder holds none.
    """
    found: dict[Path, Named] = {}
    for pattern in patterns:
        for shard in _expand_one(pattern):
            known = found.get(shard.path, shard)
            found[shard.path] = Named(
                shard.path, known.explicit or shard.explicit, known.whole or shard.whole
            )
    return list(found.values())


def _expand_one(pattern: str) -> list[Named]:
    if RANGE.search(pattern):
        return [Named(path, explicit=True) for path in _range(pattern)]
    path = Path(pattern)
    if path.is_dir():
        return [Named(shard, whole=True) for shard in _swept(path, "*.tar", f"folder {pattern}")]
    if any(mark in path.name for mark in "*?["):
        return [Named(shard) for shard in _swept(path.parent, path.name, f"glob {pattern}")]
    if not path.is_file():
        raise ShardError(pattern, "no such shard", found=holdings(path.parent), fix=fetch(pattern))
    return [Named(path, explicit=True)]


def _swept(folder: Path, pattern: str, where: str) -> list[Path]:
    paths = sorted(path for path in folder.glob(pattern) if path.suffix == ".tar")
    if not paths:
        raise ShardError(where, "holds no shard", found=holdings(folder), fix=fetch(str(folder)))
    return paths


def _range(pattern: str) -> list[Path]:
    match = RANGE.search(pattern)
    assert match is not None
    first, last = match.groups()
    low, high, width = int(first), int(last), len(first)
    if high < low or high - low >= MAX_RANGE:
        raise ShardError(
            pattern, "is not a range of shards", found=f"{first}..{last}", expected="<first..last>"
        )
    numbers = [f"{number:0{width}d}" for number in range(low, high + 1)]
    paths = [Path(pattern[: match.start()] + number + pattern[match.end() :]) for number in numbers]
    missing = [number for number, path in zip(numbers, paths, strict=True) if not path.is_file()]
    if missing:
        raise ShardError(
            pattern,
            f"missing {runs(missing)}",
            found=holdings(paths[0].parent, pattern[: match.start()]),
            fix=fetch(str(paths[0].parent)),
        )
    return paths


def holdings(folder: Path, prefix: str = "") -> str:
    """What a folder holds, in few words: `data/ holds gqa-000–003`."""
    if not folder.is_dir():
        return f"{folder}/ does not exist"
    stem = Path(prefix).name if prefix and not prefix.endswith("/") else ""
    names = sorted(path.stem for path in folder.glob("*.tar") if path.name.startswith(stem))
    if not names:
        return f"{folder}/ holds no shard" + (f" {stem}*" if stem else "")
    tails = [name.removeprefix(stem) for name in names]
    if numbers := [tail for tail in tails if stem and tail.isdigit()]:
        return f"{folder}/ holds {stem}{runs(numbers)}"
    return f"{folder}/ holds {len(names)} shards, {names[0]} … {names[-1]}"


def runs(numbers: list[str]) -> str:
    """`["000", "004", "005"]` → `000, 004–005`."""
    parts: list[list[str]] = []
    for number in numbers:
        if parts and int(number) == int(parts[-1][-1]) + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(part[0] if len(part) == 1 else f"{part[0]}–{part[-1]}" for part in parts)


def fetch(target: str) -> str:
    """What to do about shards that are not there."""
    return f"fetch them (dvc pull {target}) or build them (dvc repro)"
