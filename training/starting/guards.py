"""What must be the same when a run goes on: its shards to the byte, and its settings but for a few."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import structs

from contract import index
from contract.errors import MismatchError, ParamsError
from contract.manifest import NegativesManifest
from training.batching import synonyms
from training.config import Augment, Train
from training.reading.sources import NEGATIVES
from training.reading.unindexed import fingerprint
from training.run import RunConfig
from training.settings import from_builtins, override, to_builtins
from training.shards import Shard, ShardSet

FREE = ("threads", "ahead", "on_error", "max_skipped")  # settings that change no number of a sound run
DIGITS = 16  # of a fingerprint, as it is kept
RECORDS = "records"
SAID = 3  # differences of one kind

Fingerprints = dict[str, dict[str, str]]  # shard → its records or a column → of all their bytes


def fingerprints(shards: ShardSet, settings: Train) -> Fingerprints:
    """Of the opened shards, by name, in all that the settings read of them."""
    mined = bool(settings.tasks.mined or settings.tasks.swapped)
    facts = shards.source.mining() if mined else None
    return {
        shard.path.stem: _of_shard(shard)
        | (_of_negatives(shards.source.mined(shard.path), shard, facts) if mined else {})
        for shard in shards.shards
    }


def _of_shard(shard: Shard) -> dict[str, str]:
    columns = {name: column.fingerprint for name, column in shard.columns.items()}
    return {name: whole[:DIGITS] for name, whole in {RECORDS: shard.fingerprint, **columns}.items()}


def _of_negatives(path: Path, shard: Shard, facts: NegativesManifest | None) -> dict[str, str]:
    """By their manifest, or by what they say themselves; in a tar of records they are told by that one."""
    if path == shard.path:
        return {}
    known = facts.shards.get(path.stem) if facts else None
    whole = known.index if known else fingerprint(index.load(path))
    return {NEGATIVES: whole[:DIGITS]}


def same(stored: RunConfig, wanted: RunConfig) -> bool:
    """Whether a run is one that would now be begun, but for what may change and the arithmetic's threads.

    Its ancestors hang on the weights that it was begun with; runs of earlier versions do not name them.
    """
    before, now = (
        structs.replace(one, torch_threads=0, settings={}, ancestors=[]) for one in (stored, wanted)
    )
    trains = (from_builtins(one.settings, "settings") for one in (stored, wanted))
    return before == now and not differences(*trains)


def check_shards(run: Path, stored: Fingerprints, here: Fingerprints) -> None:
    """Refuse to go on with other shards, or rebuilt ones: other pictures would come, or in another order."""
    both = sorted(name for name in stored.keys() & here.keys() if stored[name] != here[name])
    kinds = {
        "new": sorted(here.keys() - stored.keys()),
        "missing": sorted(stored.keys() - here.keys()),
        "rebuilt": [f"{name} ({', '.join(_rebuilt(stored[name], here[name]))})" for name in both],
    }
    found = [f"{len(names)} {kind}: {_few(names)}" for kind, names in kinds.items() if names]
    if found:
        raise MismatchError(
            run,
            "was trained on other shards than those that are here",
            found="; ".join(found),
            fix="use the shards of that run (dvc checkout), or start a new one by --init",
        )


def check_words(run: Path, stored: str, augment: Augment) -> None:
    """Refuse to go on where the file of synonyms is another: the same text would be shown in other words.

    stored: "" also of a run that was begun before this was noted.
    """
    here = synonyms.fingerprint(augment)
    if stored and here != stored:
        raise MismatchError(
            augment.vocabulary,
            f"is not the file of synonyms that {run} was begun with",
            found=here[:DIGITS],
            expected=stored[:DIGITS],
            fix="put that file back, or start a new run by --init",
        )


def _rebuilt(stored: dict[str, str], here: dict[str, str]) -> list[str]:
    return [part for part in stored | here if stored.get(part) != here.get(part)]


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - SAID} more" if len(names) > SAID else ""
    return ", ".join(names[:SAID]) + more


def continued(run: Path, stored: Train, overrides: list[str]) -> Train:
    """The settings of a run that goes on: its own, under `overrides` of those that are free."""
    asked = override(stored, overrides)
    if changes := differences(stored, asked):
        raise ParamsError(
            "--set",
            f"would change what {run} was begun with",
            found="; ".join(changes),
            expected=f"at most {', '.join(FREE)}",
            fix=f"leave it out, or begin a new run by --init {run}",
        )
    return asked


def differences(stored: Train, asked: Train) -> list[str]:
    """`optim.batch 64 → 32` of every setting that is not free."""
    before, now = (_flat(to_builtins(_bound(train))) for train in (stored, asked))
    return [
        f"{name} {before.get(name)} → {now.get(name)}"
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name)
    ]


def _bound(train: Train) -> Train:
    """The settings with the free ones at their defaults."""
    return structs.replace(train, **{name: getattr(Train(), name) for name in FREE})


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
