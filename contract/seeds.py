"""Randomness as a pure function of named parts; never seed + epoch, never a global generator."""

import hashlib

import numpy as np

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
