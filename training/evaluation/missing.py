"""What the pipeline rejected of the split that is scored: no score counts it, official files lack it."""

from collections.abc import Iterable, Mapping

from contract.manifest import Missing

Counts = Mapping[str, int]  # see contract.manifest.Missing


def of_split(known: Missing, datasets: Iterable[str], split: str) -> Missing:
    """What is missing of a split of these datasets, and of none that is known; only where something is."""
    found = {
        name: {of: counts for of, counts in known.get(name, {}).items() if of in (split, "") and counts}
        for name in sorted(datasets)
    }
    return {name: splits for name, splits in found.items() if splits}


def notes(missing: Missing) -> list[str]:
    """A line per dataset and split."""
    return [
        f"{_place(name, split)}: {_said(counts)} rejected by the pipeline: in no shard, in no score"
        for name, splits in missing.items()
        for split, counts in splits.items()
    ]


def lacking(missing: Missing, kinds: Iterable[str]) -> str:
    """The same of these kinds alone, behind the name of a file that lacks them; "" if it lacks nothing."""
    wanted = set(kinds)
    found = [
        f"{_said(some)} of {_place(name, split)}"
        for name, splits in missing.items()
        for split, counts in splits.items()
        if (some := {kind: count for kind, count in counts.items() if kind in wanted})
    ]
    return f"; it lacks {', and '.join(found)}, which the pipeline rejected" if found else ""


def _place(dataset: str, split: str) -> str:
    return f"{dataset} {split}" if split else f"{dataset}, split unknown"


def _said(counts: Counts) -> str:
    """`1 picture and 4 edits`."""
    *most, last = (f"{count:,} {kind}{'s' * (count > 1)}" for kind, count in _pictures_first(counts))
    return f"{', '.join(most)} and {last}" if most else last


def _pictures_first(counts: Counts) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (item[0] != "picture", item[0]))
