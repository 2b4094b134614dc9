"""Negatives: the tars of `negatives/`, beside the records' and with the same keys, or the record tars."""

from pathlib import Path

from contract import codec, index
from contract.errors import MismatchError, ShardError
from contract.record import Near, Negatives, NegText, Text
from training.batching.order import choose_texts
from training.reading.members import Member, Reader
from training.reading.tars import Tars
from training.shards import COLUMN_FIELDS, Shard, ShardSet, check_facts, check_keys

MEMBER = "neg.json"


class Mined:
    """Neighbours of pictures and changed texts, each tar opened and checked when it is first asked.

    MismatchError when the folder was mined for fewer than `count` per picture or from other shards.
    """

    def __init__(self, shards: ShardSet, tars: Tars, count: int) -> None:
        self._source, self._tars = shards.source, tars
        self._vocabulary = shards.vocabulary
        self._facts = shards.source.mining()
        self._open: dict[Path, Member] = {}
        if self._facts and count > self._facts.per_picture:
            raise MismatchError(
                shards.folder,
                "has fewer negatives per picture than this run takes",
                found=self._facts.per_picture,
                expected=f"at least {count}",
                fix="raise negatives.pictures.num_negatives and mine again (dvc repro negatives)",
            )

    def read(self, shard: Shard, row: int) -> Negatives:
        """Of the picture in that row of a record shard; neighbours nearest first."""
        path = self._source.mined(shard.path)
        if path not in self._open:
            self._open[path] = self._load(path, shard)
        member = self._open[path]
        with Reader(self._tars) as reader:
            payload = reader.payload(member, row)
        with self._tars.meter.measure("decode"):
            return self._decoded(payload, member.where(row))

    def _decoded(self, payload: memoryview, where: str) -> Negatives:
        found = codec.decode_negatives(payload, where)
        for of in found.texts.values():
            _check_pairs(of.near, where)
        if not all(self._known(text) for of in found.texts.values() for text in of.swapped):
            raise ShardError(where, "holds a token that the tokenizer does not know", fix="mine again")
        return found

    def _known(self, text: NegText) -> bool:
        return all(0 <= token < self._vocabulary for token in text.tokens)

    def _load(self, path: Path, shard: Shard) -> Member:
        found = index.load(path)
        if path != shard.path:
            check_keys(path, found, shard.path, shard.index)
            if self._facts:
                check_facts(path, found, self._facts.shards)
        lean = found.only([MEMBER], path).lean(COLUMN_FIELDS, shard.index.names)
        return Member(path, lean, MEMBER)


def _check_pairs(near: Near, where: str) -> None:
    if near.text and len(near.text) != len(near.key):
        problem = f"names {len(near.key)} pictures and {len(near.text)} texts of them"
        raise ShardError(where, problem, fix="mine again (dvc repro negatives)")


def swaps(found: Negatives, text: Text, take: int, seed: int, key: str, turn: int) -> list[NegText]:
    """Up to `take` changes that make a text of a picture false; by and by every one is shown."""
    known = found.texts[text.id].swapped if text.id in found.texts else []
    return [known[row] for row in choose_texts(seed, f"{key} {text.id}", turn, len(known), take)]
