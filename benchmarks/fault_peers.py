"""What another reader delivers of one tar: a line of JSON, for benchmarks/faults.py.

    .venv-bench/bin/python benchmarks/fault_peers.py webdataset TAR

Each reader is used as its own guide shows, with its decoding and its defaults. Runs in an environment of its
own, which knows nothing of Fuseline.
"""

import hashlib
import importlib.util
import json
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Any

import numpy as np

MEMBERS = ("json", "vit.npy")


def webdataset(tar: str) -> Iterable[dict[str, Any]]:
    """webdataset.WebDataset, decoded."""
    import webdataset

    return webdataset.WebDataset(tar, shardshuffle=False).decode()


def datasets(tar: str) -> Iterable[dict[str, Any]]:
    """HF datasets, streamed."""
    from datasets import load_dataset

    return load_dataset("webdataset", data_files=tar, split="train", streaming=True)


def ray(tar: str) -> Iterable[dict[str, Any]]:
    """Ray Data, decoded."""
    import ray

    ray.init(num_cpus=1, log_to_driver=False, include_dashboard=False)
    return ray.data.read_webdataset(tar).iter_rows()


READERS: dict[str, Callable[[str], Iterable[dict[str, Any]]]] = {
    "webdataset": webdataset,
    "datasets": datasets,
    "ray": ray,
}


def delivered(reader: str, tar: str) -> dict[str, Any]:
    """key → digest of what came of each sample; error: the exception it ended with."""
    digests: dict[str, str] = {}
    try:
        for sample in READERS[reader](tar):
            digests[sample["__key__"]] = digest(sample)
    except Exception as error:
        return {"digests": digests, "error": type(error).__name__}
    return {"digests": digests, "error": None}


def digest(sample: dict[str, Any]) -> str:
    """Of the members that training would use, each as it was decoded."""
    whole = hashlib.sha256()
    for name in MEMBERS:
        value = sample.get(name)
        is_array = isinstance(value, np.ndarray | list)
        whole.update(np.asarray(value).tobytes() if is_array else json.dumps(value, default=str).encode())
    return whole.hexdigest()


def main(reader: str, tar: str) -> None:
    """Print what came, or that the reader is not installed."""
    there = importlib.util.find_spec(reader) is not None
    print(json.dumps(delivered(reader, tar) | {"version": version(reader)} if there else None))


if __name__ == "__main__":
    main(*sys.argv[1:])
