"""Mined negatives: the tars of `negatives/`, which lie beside the records' and hold the same keys."""

from pathlib import Path

from contract import codec, index, manifest
from contract.errors import MismatchError
from contract.index import Index
from contract.manifest import NegativesManifest
from training.reading.tars import Tars, read_member
from training.shards import COLUMN_FIELDS, Shard, ShardSet, check_facts, check_keys

MEMBER = "neg.json"


class Mined:
    """Neighbours of pictures, each tar opened and checked when it is first asked.

    MismatchError when the folder was mined for fewer than `count` per picture or from other shards.
    """

    def __init__(self, shards: ShardSet, tars: Tars, count: int) -> None:
        self.folder, self._tars = shards.folder.parent / "negatives", tars
        self._facts = manifest.load(self.folder, NegativesManifest)
        self._open: dict[Path, Index] = {}
        if count > self._facts.per_picture:
            raise MismatchError(
                self.folder,
                "holds fewer negatives per picture than this run takes",
                found=self._facts.per_picture,
                expected=f"at least {count}",
                fix="raise negatives.pictures.num_negatives and mine again (dvc repro negatives)",
            )

    def keys(self, shard: Shard, row: int) -> list[str]:
        """Keys of the neighbours of the picture in that row of a record shard, nearest first."""
        path = self.folder / shard.path.name
        if path not in self._open:
            self._open[path] = self._load(path, shard)
        known = self._open[path]
        where = f"{path}: {shard.index.key(row)}.{MEMBER}"
        member = read_member(self._tars, path, known, row, known.member(MEMBER, path))
        return codec.decode_negatives(member, where).pictures.key

    def _load(self, path: Path, shard: Shard) -> Index:
        found = index.load(path)
        check_keys(path, found, shard.path, shard.index)
        check_facts(path, found, self._facts.shards)
        return found.lean(COLUMN_FIELDS, shard.index.names)
