"""Randomness as a pure function of named parts; never seed + epoch, never a global generator."""

import hashlib

import numpy as np
from numpy.typing import NDArray

Part = str | int


def seed64(*parts: Part) -> int:
    """An integer in [0, 2^64) that depends on every part, its type and its place."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        text = f"{type(part).__name__}:{part}".encode()
        digest.update(len(text).to_bytes(4, "little") + text)
    return int.from_bytes(digest.digest(), "little")


def uniform(*parts: Part) -> float:
    """A number in [0, 1) that depends on every part."""
    return (seed64(*parts) >> 11) / float(1 << 53)


def rng(*parts: Part) -> np.random.Generator:
    """A generator of its own for one purpose: `rng(seed, "order", epoch)`."""
    return np.random.Generator(np.random.PCG64(seed64(*parts)))


def hash_keys(keys: NDArray[np.bytes_], *parts: Part) -> NDArray[np.uint64]:
    """A hash of each of many keys [n] and of all parts: millions a second, whatever width the array has."""
    width = -(-keys.dtype.itemsize // 8) * 8
    padded = np.ascontiguousarray(keys.astype(f"S{width}", copy=False))
    words = padded.view("<u8").reshape(len(keys), width // 8)
    total = np.full(len(keys), seed64(*parts), np.uint64)
    for column in range(words.shape[1]):
        if (word := words[:, column]).any():
            total += _mix(word * np.uint64(seed64("word", column) | 1))  # a word of zeros adds nothing
    return _mix(total)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bijection of 64 bits that carries every bit to every other, and keeps 0."""
    for shift, factor in ((31, 0x7FB5D329728EA185), (27, 0x81DADEF4BC2DD44D)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(33))


def uniforms(keys: NDArray[np.bytes_], *parts: Part) -> NDArray[np.float64]:
    """A number in [0, 1) for each of many keys, that depends on the key and on every part."""
    return (hash_keys(keys, *parts) >> np.uint64(11)) / float(1 << 53)
