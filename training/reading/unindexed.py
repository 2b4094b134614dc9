"""What an index would have said of a shard that came without one, read from its payloads.

A scan of the headers finds the members; how many texts a record has and which arrays are empty it cannot see.
"""

from pathlib import Path

from contract import codec
from contract.index import ABSENT, Index, count_texts
from contract.manifest import FeatureManifest
from training.reading.tars import Tars, read_member, read_record


def complete_records(tars: Tars, path: Path, index: Index) -> None:
    """Fill `texts`: every record is decoded once."""
    for row in range(len(index)):
        index.rows["texts"][row] = count_texts(read_record(tars, path, index, row))


def complete_column(tars: Tars, path: Path, index: Index, known: FeatureManifest) -> None:
    """Flag the pictures whose array has no tokens; only members too short for all tokens are opened."""
    if not len(index):
        return
    member = index.member(f"{known.encoder}.npy", path)
    least = known.tokens * known.width  # bytes, whatever the type
    for row in (index.rows["size"][:, member] < least).nonzero()[0]:
        where = f"{path}: {index.key(int(row))}.{known.encoder}.npy"
        array = codec.decode_array(read_member(tars, path, index, int(row), member), where)
        index.rows["flags"][row] = ABSENT * (not len(array))
