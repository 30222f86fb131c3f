"""Random generators that depend on what is drawn, not on when or in which batch it is drawn."""

from __future__ import annotations

import hashlib

import numpy as np


def set_generator(seed: int, name: str) -> np.random.Generator:
    """The generator of (seed, name)."""
    return np.random.Generator(np.random.Philox(key=_key(seed, name)))


def image_generator(seed: int, name: str, index: int) -> np.random.Generator:
    """The generator of image `index` of the set `name`: independent of all others, and of any order."""
    # Philox's 256-bit counter leaves each image 2^192 blocks of its own.
    return np.random.Generator(np.random.Philox(key=_key(seed, name), counter=[0, 0, 0, index + 1]))


def _key(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:16], "little")
