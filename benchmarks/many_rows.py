"""What ten million pictures cost before the first batch: seconds, and the memory that stays.

    python -m benchmarks.many_rows --folder /tmp/many-rows

The indexes are real files of real size; the tars behind them are holes, for nothing of them is read.
"""

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from benchmarks import report
from benchmarks.report import Figure, figure
from contract import manifest, record, tar
from contract.files import sha256_file
from contract.index import Index, index_path, row_type
from contract.manifest import DataManifest, FeatureManifest, ShardFacts, TokenizerFacts, WeightsFacts
from training.shards import open_shards
from training.stream import Stream

COLUMN = "vit"
RECORD_BYTES, FEATURE_BYTES = 2_000, 64


def build(folder: Path, rows: int, shards: int) -> None:
    """Indexes and manifests of a record tar and one feature column."""
    facts: dict[str, dict[str, ShardFacts]] = {"data": {}, COLUMN: {}}
    per_shard = rows // shards
    for number in range(shards):
        keys = np.array([b"%08d" % row for row in range(number * per_shard, (number + 1) * per_shard)])
        for name, size in (("data", RECORD_BYTES), (COLUMN, FEATURE_BYTES)):
            where = folder / "data" if name == "data" else folder / "features" / name
            suffix = "json" if name == "data" else f"{name}.npy"
            path = where / f"many-{number:05d}.tar"
            facts[name][path.stem] = _write(path, suffix, keys, size)
    _manifests(folder, facts)


def _write(path: Path, suffix: str, keys: np.ndarray, size: int) -> ShardFacts:
    extent = tar.BLOCK + tar.padded(size)
    known = np.zeros(len(keys), row_type(1))
    known["key"], known["size"] = keys, size
    known["offset"][:, 0] = np.arange(len(keys), dtype=np.uint64) * extent
    known["hash"][:, 0] = np.random.default_rng(0).integers(0, 1 << 63, len(keys), np.uint64)
    known["texts"][:, 0] = 8 if suffix == "json" else 0
    path.parent.mkdir(parents=True, exist_ok=True)
    length = extent * len(keys) + tar.RECORD
    with path.open("wb") as file:
        file.truncate(length)
    Index([suffix], known, length).save(index_path(path))
    return ShardFacts("many", "train", len(keys), length, "", index=sha256_file(index_path(path)))


def _manifests(folder: Path, facts: dict[str, dict[str, ShardFacts]]) -> None:
    Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]")).save(str(folder / "data" / "tokenizer.json"))
    tokens = TokenizerFacts("none", sha256_file(folder / "data" / "tokenizer.json"))
    manifest.save(folder / "data", DataManifest(1, record.fingerprint(), tokens, ["yes"], facts["data"]))
    weights = WeightsFacts("random", "none")
    manifest.save(
        folder / "features" / COLUMN,
        FeatureManifest(
            1,
            COLUMN,
            "none",
            "none",
            weights,
            "squash",
            16,
            1,
            False,
            1,
            "float16",
            1,
            1,
            1,
            {},
            facts[COLUMN],
        ),
    )


def measure(folder: Path) -> list[Figure]:
    """Open the shards, make the stream, and the order of its first epoch."""
    before, marks = _memory(), [time.perf_counter()]
    opened = open_shards([str(folder / "data")], [COLUMN])
    marks.append(time.perf_counter())
    stream = Stream(opened, ["vqa"], batch=64, development=0.05)
    marks.append(time.perf_counter())
    stream.planner.orders[0].at(0, 64)
    marks.append(time.perf_counter())
    opening, making, ordering = np.diff(marks).tolist()
    return [
        figure("rows of the training part, millions", len(stream) / 1e6),
        figure("open the shards: indexes read, hashed and checked, seconds", opening),
        figure("make the stream, seconds", making),
        figure("order of the first epoch, seconds", ordering),
        figure("start without opening, indexes in memory: the last two, seconds", making + ordering, "< 2"),
        figure("start from 2 GB of index files: all three, seconds", marks[-1] - marks[0]),
        figure("memory that is needed for it, GiB", _memory() - before, "< 1", "peak"),
    ]


def _memory() -> float:
    """Peak of this process so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)


def main(arguments: list[str]) -> None:
    """Build the folder where it is missing, measure, write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_rows", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--shards", type=int, default=1000)
    options = parser.parse_args(arguments)
    if not options.folder.is_dir():
        build(options.folder, options.rows, options.shards)
        print("built; run again: the memory of building would be counted")
        return
    report.write("many_rows", measure(options.folder))


if __name__ == "__main__":
    main(sys.argv[1:])
