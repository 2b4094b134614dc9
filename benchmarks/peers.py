"""Other readers over the samples of benchmarks/stream.py, each in the format that its own writer makes.

    .venv-bench/bin/python benchmarks/peers.py write webdataset SET FOLDER
    .venv-bench/bin/python benchmarks/peers.py read webdataset FOLDER --workers 2

Runs in an environment of its own (`make bench-env`), which knows nothing of Fuseline: it takes the
samples out of the tars. A batch is what training would be given: a tensor per column, and decoded records.
"""

import argparse
import io
import json
import multiprocessing
import os
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch.utils.data import DataLoader

Sample = dict[str, Any]
CHUNK = 64 << 20  # bytes of a file that a writer fills
HEADER = 128  # bytes of an npy before its numbers
BUFFER = 256  # samples among which webdataset shuffles; the others shuffle the whole set


def samples(folder: Path) -> Iterator[Sample]:
    """{"key", "json": bytes, "<column>": float16 array} of every picture of a set."""
    columns = sorted(path.name for path in (folder / "features").iterdir())
    for shard in sorted((folder / "data").glob("*.tar")):
        tars = [shard, *(folder / "features" / column / shard.name for column in columns)]
        for key, *payloads in zip(*map(members, tars), strict=True):
            arrays = (array(payload) for _, payload in payloads)
            yield {"key": key[0], "json": key[1]} | dict(zip(columns, arrays, strict=True))


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    """(key, content) in the order of the tar."""
    with tarfile.open(path) as file:
        for member in file:
            content = file.extractfile(member)
            assert content is not None
            yield member.name.split(".")[0], content.read()


def array(npy: bytes) -> np.ndarray:
    """The float16 numbers of an npy member, without a copy."""
    return np.frombuffer(npy, np.float16, offset=HEADER).reshape(shape(npy[:HEADER]))


@lru_cache
def shape(header: bytes) -> tuple[int, ...]:
    """What an npy header says."""
    return np.lib.format.read_array_header_1_0(io.BytesIO(header[8:]))[0]


def write_litdata(source: Iterable[Sample], folder: Path) -> None:
    from litdata.streaming.writer import BinaryWriter

    writer = BinaryWriter(str(folder), chunk_bytes=CHUNK)
    for number, sample in enumerate(source):
        writer[number] = {name: plain(value) for name, value in sample.items()}
    writer.done()
    writer.merge()


def plain(value: Any) -> Any:
    """Arrays as tensors, which LitData reads faster than arrays."""
    return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value


def read_litdata(folder: Path, workers: int, batch: int) -> Iterable[Any]:
    from litdata import StreamingDataLoader, StreamingDataset

    data = StreamingDataset(str(folder), shuffle=True, drop_last=False)
    return StreamingDataLoader(
        data, batch_size=batch, num_workers=workers, collate_fn=collate, persistent_workers=workers > 0
    )


def write_mosaicml(source: Iterable[Sample], folder: Path) -> None:
    from streaming import MDSWriter

    rest = iter(source)
    first = next(rest)
    columns = {name: kind(value) for name, value in first.items()}
    with MDSWriter(out=str(folder), columns=columns, size_limit=CHUNK) as writer:
        for sample in chain([first], rest):
            writer.write(sample)


def kind(value: Any) -> str:
    """What MDS calls the type of a value."""
    if isinstance(value, np.ndarray):
        return f"ndarray:{value.dtype}:{','.join(map(str, value.shape))}"
    return {str: "str", bytes: "bytes"}[type(value)]


def read_mosaicml(folder: Path, workers: int, batch: int) -> Iterable[Any]:
    from streaming import StreamingDataset

    data = StreamingDataset(local=str(folder), shuffle=True, batch_size=batch)
    return DataLoader(
        data, batch_size=batch, num_workers=workers, collate_fn=collate, persistent_workers=workers > 0
    )


def write_webdataset(source: Iterable[Sample], folder: Path) -> None:
    import webdataset

    folder.mkdir(parents=True)
    with webdataset.ShardWriter(str(folder / "set-%04d.tar"), maxsize=CHUNK, verbose=0) as writer:
        for sample in source:
            named = {f"{name}.npy": value for name, value in sample.items() if isinstance(value, np.ndarray)}
            writer.write({"__key__": sample["key"], "json": sample["json"], **named})


def read_webdataset(folder: Path, workers: int, batch: int) -> Iterable[Any]:
    import webdataset

    def whole(sample: Sample) -> Sample:
        arrays = {name[:-4]: array(value) for name, value in sample.items() if name.endswith(".npy")}
        return {"key": sample["__key__"], "json": sample["json"], **arrays}

    tars = sorted(map(str, folder.glob("*.tar")))
    data = webdataset.WebDataset(tars, shardshuffle=len(tars)).shuffle(BUFFER).map(whole)
    return DataLoader(
        data, batch_size=batch, num_workers=workers, collate_fn=collate, persistent_workers=workers > 0
    )


def collate(chosen: list[Sample]) -> dict[str, Any]:
    """A tensor per column and the decoded records."""
    arrays = [name for name in chosen[0] if name not in ("key", "json") and not name.startswith("__")]
    return {
        "key": [sample["key"] for sample in chosen],
        "record": [msgspec.json.decode(sample["json"]) for sample in chosen],
        **{name: stacked([sample[name] for sample in chosen]) for name in arrays},
    }


def stacked(values: list[Any]) -> torch.Tensor:
    """Tensors or arrays as one tensor."""
    return torch.stack(values) if isinstance(values[0], torch.Tensor) else torch.from_numpy(np.stack(values))


WRITERS: dict[str, Callable[[Iterable[Sample], Path], None]] = {
    "LitData": write_litdata,
    "MosaicML": write_mosaicml,
    "webdataset": write_webdataset,
}
MODULES = {"LitData": "litdata", "MosaicML": "streaming", "webdataset": "webdataset"}
READERS: dict[str, Callable[[Path, int, int], Iterable[Any]]] = {
    "LitData": read_litdata,
    "MosaicML": read_mosaicml,
    "webdataset": read_webdataset,
}


def measure(peer: str, folder: Path, workers: int, batch: int, seconds: float) -> dict[str, float]:
    """Samples a second after the first batch, the wait for that one, and by how much the processes grew."""
    import_module(MODULES[peer])
    before, started = memory(), time.perf_counter()
    loader = READERS[peer](folder, workers, batch)
    batches = (made for _ in iter(int, 1) for made in loader)  # epoch after epoch
    next(batches)
    first, read = time.perf_counter(), 0
    for made in batches:
        read += len(made["key"])
        if time.perf_counter() - first > seconds:
            break
    return {
        "rate": read / (time.perf_counter() - first),
        "first_batch": first - started,
        "grown_mb": memory() - before,
    }


def memory() -> float:
    """Of this process and its workers, MB; what they share counts once. Now, so never more than the peak."""
    numbers = [os.getpid(), *(worker.pid for worker in multiprocessing.active_children())]
    return sum(map(proportional_kb, numbers)) / 1024


def proportional_kb(process: int) -> int:
    """Its memory, each page shared out among those that have it."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def main() -> None:
    """Write a set in a peer's format, or read it and print what was measured as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("write", "read"):
        verbs.add_parser(verb).add_argument("peer", choices=WRITERS)
    verbs.choices["write"].add_argument("source", type=Path)
    for verb in ("write", "read"):
        verbs.choices[verb].add_argument("folder", type=Path)
    verbs.choices["read"].add_argument("--workers", type=int, default=0)
    verbs.choices["read"].add_argument("--batch", type=int, default=64)
    verbs.choices["read"].add_argument("--seconds", type=float, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.verb == "write":
        WRITERS[options.peer](samples(options.source), options.folder)
    else:
        print(
            json.dumps(measure(options.peer, options.folder, options.workers, options.batch, options.seconds))
        )


if __name__ == "__main__":
    main()
