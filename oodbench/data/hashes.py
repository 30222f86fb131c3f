"""The hashes of image sets: made while the images are read, and kept on disk so that this is done once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from oodbench.files import atomic_write, cache_folder


class Hashes(NamedTuple):
    """SHA-256 of a set as a whole, in hexadecimal, and of each of its images, uint8 N×32, in order."""

    content_hash: str
    image_hashes: np.ndarray

    @classmethod
    def of(cls, image_hashes: np.ndarray) -> Hashes:
        """Those of a set whose images have these: the set's is over the count and the images', in order.

        So it can be put together from parts, whoever made them, and in whatever order they came.
        """
        whole = hashlib.sha256(f"{len(image_hashes)} images by SHA-256".encode())
        whole.update(np.ascontiguousarray(image_hashes).data)
        return cls(whole.hexdigest(), image_hashes)


def image_hash(image: np.ndarray) -> bytes:
    """SHA-256 over the shape and the uint8 pixels of an image as it is stored, before any matching."""
    single = hashlib.sha256(repr(tuple(image.shape)).encode())
    single.update(np.ascontiguousarray(image).data)
    return single.digest()


class Hashing:
    """The hashes of a set of `count` images, which come in parts, in any order."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._hashes = np.zeros((count, 32), np.uint8)
        self._known = np.zeros(count, bool)

    def update(self, start: int, hashes: np.ndarray) -> None:
        """Those of the images from `start` on, uint8 n×32."""
        self._hashes[start : start + len(hashes)] = hashes
        self._known[start : start + len(hashes)] = True

    def part(self, start: int, stop: int) -> np.ndarray | None:
        """Those of the images start … stop−1, uint8; None where one is not known."""
        return self._hashes[start:stop] if self._known[start:stop].all() else None

    def finished(self) -> Hashes | None:
        """The hashes of the set; None before all are known."""
        return Hashes.of(self._hashes) if self._known.all() else None


def hashes_of(images: np.ndarray | list[np.ndarray]) -> np.ndarray:
    """uint8 N×32, of N images as they are stored."""
    return np.frombuffer(b"".join(map(image_hash, images)), np.uint8).reshape(-1, 32)


def read_hashes(identity: str) -> Hashes | None:
    """What was kept of the set of this identity; None where there is nothing, or what is there is damaged."""
    path = _index_file(identity)
    try:
        with safe_open(path, framework="numpy") as file:
            facts = file.metadata()
            hashes = Hashes.of(file.get_tensor("image_hashes"))
    except (OSError, RuntimeError, SafetensorError, KeyError, TypeError):
        return None
    return hashes if facts and facts.get("checksum") == _checksum(identity, hashes) else None


def write_hashes(identity: str, hashes: Hashes) -> None:
    """Keep a set's hashes for the next time; where the cache cannot be written, that time makes them anew."""
    facts = {"checksum": _checksum(identity, hashes)}
    try:
        with atomic_write(_index_file(identity)) as temporary:
            save_file({"image_hashes": hashes.image_hashes}, temporary, facts)
    except OSError:
        pass


def _index_file(identity: str) -> Path:
    return cache_folder() / "hashes" / f"{hashlib.sha256(identity.encode()).hexdigest()}.safetensors"


def _checksum(identity: str, hashes: Hashes) -> str:
    # The identity is in it: a file that was renamed by hand is of another set.
    images = np.ascontiguousarray(hashes.image_hashes)
    told = repr((identity, hashes.content_hash, images.dtype.str, images.shape)).encode()
    return hashlib.sha256(told + images.tobytes()).hexdigest()
