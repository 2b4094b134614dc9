"""Negatives: the tars of `negatives/`, beside the records' and with the same keys, or the record tars."""

from collections.abc import Collection
from pathlib import Path

from contract import codec, index
from contract.errors import MismatchError, ShardError
from contract.record import Near, Negatives, NegText, Text
from contract.seeds import seed64
from training.batching.order import choose_texts
from training.reading.members import Member, Reader
from training.reading.tars import Tars
from training.shards import COLUMN_FIELDS, Shard, ShardSet, check_facts, check_keys

MEMBER = "neg.json"


class Mined:
    """Neighbours of pictures and changed texts, each tar opened and checked when it is first asked.

    near_texts: whether what is near a text will be asked for. MismatchError when the folder was mined for
    fewer than `count` per picture, from other shards, or without the words of texts that are asked for.
    """

    def __init__(self, shards: ShardSet, tars: Tars, count: int, near_texts: bool) -> None:
        self._source, self._tars, self._near_texts = shards.source, tars, near_texts
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
            _check_lists(of.near, where)
            if self._near_texts and any(of.near.text) and not of.near.content:
                problem = "names texts without their words: it was mined by an earlier version"
                raise MismatchError(where, problem, fix="mine again (dvc repro negatives)")
        tokens = _tokens(found)
        if tokens and not (min(tokens) >= 0 and max(tokens) < self._vocabulary):
            raise ShardError(where, "holds a token that the tokenizer does not know", fix="mine again")
        return found

    def _load(self, path: Path, shard: Shard) -> Member:
        found = index.load(path)
        if path != shard.path:
            check_keys(path, found, shard.path, shard.index)
            if self._facts:
                check_facts(path, found, self._facts.shards)
        lean = found.only([MEMBER], path).lean(COLUMN_FIELDS, shard.index.names)
        return Member(path, lean, MEMBER)


def _check_lists(near: Near, where: str) -> None:
    texts, said = len(near.text), len(near.content)
    if texts not in (0, len(near.key)) or said not in (0, texts) or said != len(near.tokens):
        problem = f"names {len(near.key)} pictures and {texts} texts of them, and has the words of {said}"
        raise ShardError(where, problem, fix="mine again (dvc repro negatives)")


def _tokens(found: Negatives) -> list[int]:
    """Of all texts in a member, one behind another."""
    tokens: list[int] = []
    for of in found.texts.values():
        for said in of.near.tokens:
            tokens += said
        for changed in of.swapped:
            tokens += changed.tokens
    return tokens


def near_texts(
    found: Negatives, text: Text, seed: int, key: str, turn: int, take: int, barred: Collection[str]
) -> list[Text]:
    """Up to `take` texts of other pictures, mined for a text of this one; by and by every one is shown.

    barred: keys of pictures whose texts are not taken.
    """
    near = found.texts[text.id].near if text.id in found.texts else Near()
    left = [place for place in range(len(near.content)) if near.key[place] not in barred]
    first = seed64(seed, "near", key, text.id) + turn * take
    rows = (left[number % len(left)] for number in range(first, first + min(take, len(left))))
    return [Text(text.id, text.role, near.content[row], near.tokens[row]) for row in rows]


def swaps(found: Negatives, text: Text, seed: int, key: str, turn: int, take: int) -> list[NegText]:
    """Up to `take` changes that make a text of a picture false; by and by every one is shown."""
    known = found.texts[text.id].swapped if text.id in found.texts else []
    return [known[row] for row in choose_texts(seed, f"{key} {text.id}", turn, len(known), take)]
