"""Open shards: expand patterns, check manifests against each other, line the columns up."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from contract import index, manifest
from contract.errors import MismatchError, ShardError
from contract.files import sha256_file
from contract.index import ABSENT, COUNTED, Index
from contract.manifest import DataManifest, FeatureManifest
from contract.patterns import Named, expand

TRAIN = "train"


class Column(Struct):
    """One feature column of one shard."""

    path: Path
    index: Index


class Shard(Struct):
    """One record shard and the columns that lie beside it, keys in the same order."""

    path: Path
    dataset: str
    split: str
    index: Index
    columns: dict[str, Column]


class ShardSet:
    """Shards of one folder that were built together.

    tokenizer: file of the tokenizer behind every `tokens`. answers: the vocabulary. left_out: shards of
    other splits that a glob or folder named.
    """

    def __init__(
        self,
        folder: Path,
        data: DataManifest,
        features: dict[str, FeatureManifest],
        shards: list[Shard],
        left_out: int,
    ) -> None:
        self.folder, self.data, self.features = folder, data, features
        self.shards, self.left_out = shards, left_out
        self.tokenizer = folder / "tokenizer.json"
        self.answers = data.answers

    def eligible(self, counted: Iterable[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(shard, row) of every picture with a text for one of `counted` and a feature in every column."""
        wanted = [COUNTED.index(name) for name in counted]
        places = []
        for number, shard in enumerate(self.shards):
            usable = (shard.index.rows["texts"][:, wanted] > 0).any(1)
            for column in shard.columns.values():
                usable &= (column.index.rows["flags"] & ABSENT) == 0
            rows = np.flatnonzero(usable)
            places.append(np.stack([np.full(len(rows), number), rows]))
        shards, rows = np.concatenate(places, axis=1) if places else np.zeros((2, 0), np.int64)
        return shards, rows


def open_shards(
    patterns: Sequence[str],
    columns: Sequence[str],
    *,
    split: str = TRAIN,
    allow_split: bool = False,
    features: Path | None = None,
) -> ShardSet:
    """Open the shards of one split. columns: names of the feature columns that will be read.

    A shard of another split is left out when a glob or folder named it, and an error when it was named
    itself, unless `allow_split`. features: the folder of the columns, if not `features` beside `data`.
    """
    named = expand(patterns)
    folder = _one_folder(named)
    data = manifest.load(folder, DataManifest)
    chosen = _choose_split(named, data, split, allow_split)
    if not chosen:
        splits = sorted({facts.split for facts in data.shards.values()})
        raise ShardError(
            " ".join(patterns), f"names no shard of split '{split}'", expected=f"one of {splits}"
        )
    _check_tokenizer(folder, data)
    beside = features or folder.parent / "features"
    manifests = {name: manifest.load(beside / name, FeatureManifest) for name in columns}
    shards = [_open(path, data, beside, manifests) for path in chosen]
    return ShardSet(folder, data, manifests, shards, len(named) - len(chosen))


def _one_folder(named: list[Named]) -> Path:
    folders = sorted({shard.path.parent for shard in named})
    if len(folders) > 1:
        raise MismatchError(
            ", ".join(map(str, folders)),
            "shards of several folders in one run: each has its own tokenizer and answer vocabulary",
            fix="build them together, as datasets of one params.yaml",
        )
    return folders[0]


def _choose_split(named: list[Named], data: DataManifest, split: str, allow_split: bool) -> list[Path]:
    chosen = []
    for shard in named:
        facts = data.shards.get(shard.path.stem)
        if facts is None:
            raise MismatchError(
                shard.path, "is not in the manifest of its folder", fix="rebuild it: dvc repro"
            )
        if facts.split == split or (shard.explicit and allow_split):
            chosen.append(shard.path)
        elif shard.explicit:
            raise ShardError(
                shard.path,
                f"is of split '{facts.split}', and this run reads '{split}'",
                fix="leave it out, or say --allow-split if you mean it",
            )
    return chosen


def _check_tokenizer(folder: Path, data: DataManifest) -> None:
    path = folder / "tokenizer.json"
    found = sha256_file(path) if path.is_file() else "no such file"
    if found != data.tokenizer.sha256:
        raise MismatchError(
            path,
            "tokenizer: not the file that made the tokens of these shards",
            found=found,
            expected=data.tokenizer.sha256,
            fix=f"dvc pull {path}, or rebuild the shards",
        )


def _open(path: Path, data: DataManifest, features: Path, manifests: dict[str, FeatureManifest]) -> Shard:
    records = index.load(path)
    records.member("json", path)
    facts = data.shards[path.stem]
    if len(records) != facts.samples or records.tar_bytes != facts.bytes:
        raise MismatchError(
            path,
            "is not the shard that its manifest describes",
            found=f"{len(records)} samples, {records.tar_bytes} bytes",
            expected=f"{facts.samples} samples, {facts.bytes} bytes",
            fix="fetch or rebuild the folder as a whole",
        )
    columns = {name: _open_column(path, records, features / name, known) for name, known in manifests.items()}
    return Shard(path, facts.dataset, facts.split, records, columns)


def _open_column(shard: Path, records: Index, folder: Path, known: FeatureManifest) -> Column:
    path = folder / shard.name
    found = index.load(path)
    found.member(f"{known.encoder}.npy", path)
    if not np.array_equal(found.rows["key"], records.rows["key"]):
        raise MismatchError(
            path,
            f"keys: not the same pictures as {shard}",
            found=f"{len(found)} keys",
            expected=f"{len(records)} keys in the same order",
            fix="the two were built from different catalogues: rebuild both (dvc repro)",
        )
    return Column(path, found)
