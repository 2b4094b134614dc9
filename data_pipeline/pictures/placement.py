"""Which key, split and shard a picture has: pure functions of its id and params.yaml. No state is kept.

shard = first shard of (drop, split) + ⌊u · n⌋ with u a hash of the picture id in [0, 1). So a rejected or
changed picture rewrites one shard, a new drop opens new shards, and nothing that exists moves.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence

from contract.errors import ParamsError
from contract.params import Drop
from contract.seeds import uniform

TRAIN = "train"
KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
Range = tuple[int, int]  # first shard, number of shards


def key(picture: str) -> str:
    """The picture's name in every tar: its id where that is safe, else 32 hex digits of the id's sha256."""
    return picture if KEY.fullmatch(picture) else hashlib.sha256(picture.encode()).hexdigest()[:32]


def shard_ranges(drops: Sequence[Drop]) -> dict[tuple[int, str], Range]:
    """(drop, split) → its shards. Each split counts from 0; later drops follow earlier ones."""
    used: dict[str, int] = {}
    ranges = {}
    for number, drop in enumerate(drops):
        for split, shards in drop.shards.items():
            first = used.get(split, 0)
            ranges[number, split] = (first, shards)
            used[split] = first + shards
    return ranges


def shard(dataset: str, picture: str, split: str, drop: int, ranges: Mapping[tuple[int, str], Range]) -> str:
    """`gqa-007`, `gqa-val-002`. ParamsError when the drop's `shards` does not name the split."""
    if (drop, split) not in ranges:
        raise ParamsError(
            f"params.yaml: datasets.{dataset}.raw[{drop}].shards",
            f"does not name the split '{split}', which picture {picture} belongs to",
            expected=f"a number of shards for {split}",
            fix=f"add `{split}: 1`",
        )
    first, count = ranges[drop, split]
    number = first + int(uniform("shard", picture) * count)
    return shard_name(dataset, split, number)


def shard_name(dataset: str, split: str, number: int) -> str:
    """Three digits, and a fourth from shard 1000 on; train shards carry no split."""
    return f"{dataset}-{number:03d}" if split == TRAIN else f"{dataset}-{split}-{number:03d}"


def own_split(unit: str, shares: Mapping[str, float]) -> str:
    """The split of pictures that stay together and have no official one: a hash of their name."""
    u, upper = uniform("split", unit), 0.0
    for split, share in shares.items():
        upper += share
        if u < upper:
            return split
    return list(shares)[-1]  # the shares may add up to a hair less than 1
